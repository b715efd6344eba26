"""Operations of one's own that the tests of `custom_op` share."""

import math

from fastgrad import custom_op


def cube(x):
    return x * x * x


def cube_partials(x):
    return (3 * x * x,)


def cube_second(x):
    return ((6 * x,),)


def twist(x, y, z):
    return math.sin(x) * y - z


def twist_partials(x, y, z):
    return [math.cos(x) * y, math.sin(x), -1]


cubed = custom_op(cube, cube_partials, cube_second)
twisted = custom_op(twist, twist_partials, name="twist")


def raises(*xs):
    raise KeyError("in the user's function")
