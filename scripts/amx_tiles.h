/* For the build of llama.cpp: GCC's intrinsic that sets the shapes of AMX's tiles says to the compiler that it reads 8
 * of the 64 bytes. So GCC 12.2 (Debian 12) leaves the other 56 unwritten, and every product on a processor with AMX ends
 * with signal 11. This says 64. Where there is no AMX, or another compiler, it does nothing. */
#if defined(__cplusplus) && defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(shapes) __asm__ volatile("ldtilecfg\t%X0" : : "m"(*(const char(*)[64])(shapes)))
#endif
