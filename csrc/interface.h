// The C interface of the kernels. Every field is 8 bytes wide, so that a caller in any language can pack a call without
// knowing about padding. `src/equipoise/kernels/native.py` is the only caller.
#pragma once
#include <stdint.h>

#define EQUIPOISE_ABI 2

// What the library shows to others.
#if defined(_WIN32)
#define EQUIPOISE_EXPORT extern "C" __declspec(dllexport)
#else
#define EQUIPOISE_EXPORT extern "C" __attribute__((visibility("default")))
#endif

enum equipoise_dtype {
    EQUIPOISE_FLOAT32, EQUIPOISE_FLOAT64, EQUIPOISE_BFLOAT16, EQUIPOISE_FLOAT16,
    EQUIPOISE_UINT8, EQUIPOISE_INT8, EQUIPOISE_INT16, EQUIPOISE_INT32, EQUIPOISE_INT64
};

enum equipoise_reduction { EQUIPOISE_NONE, EQUIPOISE_SUM, EQUIPOISE_MEAN, EQUIPOISE_MEAN_POSITIVE };

// What a kernel returns: 0, or the sum of what was wrong.
enum equipoise_status { EQUIPOISE_TARGET_OUT_OF_RANGE = 1, EQUIPOISE_OUT_OF_MEMORY = 2 };

// A tensor that is broadcast to the input: element i of the input meets data[(i / inner) % count]. Absent: data is null.
typedef struct {
    const void* data;
    int64_t dtype, inner, count;
} equipoise_operand;

// What all kernels share. `input` is contiguous and has `size` elements. A scalar loss is
// scale * sum / divisor: the divisor of a mean is counted by the kernel unless has_divisor. `loss` has the computing
// dtype (float64 for float64, else float32) and one element, or `size` (for rows: one per row) without reduction.
// `gradient` (null: not wanted) has the input's dtype and receives the derivative of the loss with respect to the input,
// times `upstream` where that is present. It may lie where the input does if that has the computing dtype; for the sigmoid
// family only if no target is soft, or a weight is present.
typedef struct {
    int64_t size, dtype;
    const void* input;
    void* loss;
    void* gradient;
    equipoise_operand upstream;
    int64_t reduction, has_divisor;
    double divisor, scale;
} equipoise_common;

// positive, negative: factors of the whole loss for the two halves of the target (alpha and a scalar weight).
typedef struct {
    equipoise_common common;
    equipoise_operand target, mask, weight, pos_weight, alpha_positive, alpha_negative;
    double positive, negative, gamma, smoothing;
} equipoise_sigmoid_call;

// input [rows, classes, inner]; target, sample_weight, loss and upstream [rows, inner]; class_weight [classes] multiplies
// each class's term and enters the mean's divisor, target_weight [classes] multiplies a sample and stays out of it; both
// have the computing dtype.
typedef struct {
    equipoise_common common;
    int64_t rows, classes, inner, ignore_index;
    equipoise_operand target, class_weight, target_weight, sample_weight;
    double gamma, smoothing;
} equipoise_softmax_call;

// mu = 0: classification (sigmoid cross-entropy), else regression. `factor` (float64 [bins]) is the weight of each bin;
// null: counted and computed here. `counts` (int64 [bins + 1]: kept elements per bin, then how many kept losses are not
// finite) is written where it is not null; with neither loss nor gradient nothing else is done.
typedef struct {
    equipoise_common common;
    equipoise_operand target, mask, weight;
    double mu;
    int64_t bins, all_bins;
    const double* factor;
    int64_t* counts;
} equipoise_ghm_call;

enum equipoise_pairs_rule {
    EQUIPOISE_PAIRS_ALL, EQUIPOISE_PAIRS_SEMIHARD, EQUIPOISE_PAIRS_CONTRASTIVE, EQUIPOISE_PAIRS_SOFTMAX, EQUIPOISE_PAIRS_HARD
};

// A tile [rows, columns] of distances (softmax: of scores), float32 or float64; `rooted`: of squares, whose roots are the
// distances. Its rows are anchors, and the first is the candidate `own` (-1: anchors are no candidates). Positives:
// column and valid, [rows, places]; negatives [rows]: how many; mask [rows, columns]: which, null: all others. The loss is
// added up in `value`, and what counts in `count`. The tile becomes the derivative with respect to each distance,
// where `rooted` over the distance. The rule HARD changes nothing in negatives' places, and writes far and near, [rows].
typedef struct {
    int64_t dtype, rule, soft, rooted, rows, columns, places, own, twice;
    void* tile;
    const int64_t* column;
    const uint8_t* valid;
    const int64_t* negatives;
    const uint8_t* mask;
    int64_t *far, *near;
    double margin, power;
    double* value;
    int64_t* count;
} equipoise_pairs_call;

// Products become distances: max(0, product * scale + square + row_square), and infinite between an anchor and itself. Rows
// are `stride` apart; scale and square [columns]; where row_square [rows] is null, 1 stands for it. near [rows]: whether a
// distance is at most share * (row_square + most).
typedef struct {
    int64_t dtype, rows, columns, stride, own;
    void* tile;
    const void *scale, *square, *row_square;
    double share, most;
    uint8_t* near;
} equipoise_distances_call;
