// The kernels that exist once per instruction level.
#pragma once
#include "interface.h"

#define EQUIPOISE_KERNELS                                          \
    int32_t run_sigmoid(const equipoise_sigmoid_call* call);       \
    int32_t run_softmax(const equipoise_softmax_call* call);       \
    int32_t run_ghm(const equipoise_ghm_call* call);               \
    int32_t run_pairs(const equipoise_pairs_call* call);           \
    int32_t run_distances(const equipoise_distances_call* call);

namespace baseline { EQUIPOISE_KERNELS }
namespace avx2 { EQUIPOISE_KERNELS }
namespace avx512 { EQUIPOISE_KERNELS }
