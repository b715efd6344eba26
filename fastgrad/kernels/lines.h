/* Cache lines that pass between cores.
 *
 * A line that one core has written and another reads is in both caches, and whoever writes to it
 * next waits until the other's copy is gone: longer than for memory, where the cores have no cache
 * in common.  To hand a line over costs a fraction of that.  So whoever reads what another core will
 * write next claims it at once, and a core claims in advance what it will write and others have read.
 */
#ifndef FASTGRAD_LINES_H
#define FASTGRAD_LINES_H

#include <stdint.h>

/* Make the lines of `count` doubles this core's own.  By writing what is there, as a prefetch for
 * writing leaves a line shared on Zen 4 if it is here at all. */
static inline void claim_lines(const double *from, int64_t count)
{
    for (int64_t k = 0; k < count; k += 8) {
        volatile double *const number = (volatile double *)(from + k);
        *number = *number;
    }
}

#endif
