// Picks the kernels for this CPU and exports them.
#include "levels.h"

namespace {

enum Level { BASELINE, AVX2, AVX512 };

Level best_level() {
#if defined(EQUIPOISE_X86_LEVELS)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512cd") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return AVX512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) return AVX2;
#endif
    return BASELINE;
}

Level level = best_level();

#if defined(EQUIPOISE_X86_LEVELS)
#define EQUIPOISE_DISPATCH(call)                                                     \
    switch (level) {                                                                 \
        case AVX512: return avx512::call;                                            \
        case AVX2: return avx2::call;                                                \
        default: return baseline::call;                                              \
    }
#else
#define EQUIPOISE_DISPATCH(call) return baseline::call;
#endif

}  // namespace

EQUIPOISE_EXPORT int32_t equipoise_abi(void) { return EQUIPOISE_ABI; }

EQUIPOISE_EXPORT const char* equipoise_level(void) {
    return level == AVX512 ? "avx512" : level == AVX2 ? "avx2" : "baseline";
}

// Lowers the level, for tests of the slower ones; a level that this CPU lacks is refused. 1: done, 0: refused.
EQUIPOISE_EXPORT int32_t equipoise_set_level(int32_t wanted) {
    if (wanted < BASELINE || wanted > best_level()) return 0;
    level = Level(wanted);
    return 1;
}

EQUIPOISE_EXPORT int32_t equipoise_sigmoid(const equipoise_sigmoid_call* call) { EQUIPOISE_DISPATCH(run_sigmoid(call)) }
EQUIPOISE_EXPORT int32_t equipoise_softmax(const equipoise_softmax_call* call) { EQUIPOISE_DISPATCH(run_softmax(call)) }
EQUIPOISE_EXPORT int32_t equipoise_ghm(const equipoise_ghm_call* call) { EQUIPOISE_DISPATCH(run_ghm(call)) }
EQUIPOISE_EXPORT int32_t equipoise_pairs(const equipoise_pairs_call* call) { EQUIPOISE_DISPATCH(run_pairs(call)) }
EQUIPOISE_EXPORT int32_t equipoise_distances(const equipoise_distances_call* call) {
    EQUIPOISE_DISPATCH(run_distances(call))
}
