/* For the build of llama.cpp: GCC's intrinsic that sets the shapes of AMX's tiles says to the compiler, up to 12.2 at
 * least (Debian 12), that it reads 8 of the 64 bytes. The other 56 are left unwritten then, and every product on a
 * processor with AMX ends with signal 11. This says 64. Without AMX, or with another compiler, it does nothing. */
#if defined(__cplusplus) && defined(__AMX_TILE__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define _tile_loadconfig(shapes) \
    __asm__ volatile("ldtilecfg\t%X0" : : "m"(*static_cast<const char(*)[64]>(static_cast<const void *>(shapes))))
#endif
