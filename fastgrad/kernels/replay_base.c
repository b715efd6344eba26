/* For every machine. */
#define KERNELS fastgrad_kernels_base
#define NAME "base"
#include "replay.h"
