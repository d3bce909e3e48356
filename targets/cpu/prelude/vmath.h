/* All vector maths that needs no libm. */
#ifndef TAPEOUT_VMATH_H
#define TAPEOUT_VMATH_H

#include "verf.h"
#include "vexp.h"

#endif
