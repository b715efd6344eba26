from fastgrad.row cimport Row


cdef object record_take(Row row, object i)
