// Histogram family (gradient harmonizing): a pass that counts how many elements have a gradient norm like one's own, and
// a pass that weighs every element by it. Both compute the base loss anew: that costs less than to store what was found.
#include "convert.h"
#include "levels.h"
#include "parallel.h"
#include "sigmoid.h"

#include <math.h>

namespace EQUIPOISE_LEVEL {
namespace {

constexpr int64_t CHUNK = 16384;                // elements per unit of parallel work
constexpr int64_t MOST_BINS = int64_t(1) << 28; // `bin_of` needs a limit; tables of this size fill gigabytes

enum Base { HARD_CLASSIFICATION, CLASSIFICATION, REGRESSION };  // hard: every target is 0 or 1

EQUIPOISE_INLINE float root(float x) { return sqrtf(x); }
EQUIPOISE_INLINE double root(double x) { return sqrt(x); }

// sqrt(d^2 + mu^2) - mu and its derivative. Nothing is squared but a ratio, and mu is not subtracted: no residual is too
// large or too small.
template <class T> EQUIPOISE_INLINE Point<T> smooth_absolute(T d, T mu) {
    T size = d < 0 ? -d : d;
    T larger = size > mu ? size : mu, smaller = size > mu ? mu : size;
    T ratio = smaller / larger;
    T radius = larger * root(1 + ratio * ratio);
    return {d * (d / (radius + mu)), d / radius};
}

template <class T, Base base> EQUIPOISE_INLINE Point<T> base_loss(T input, T target, T mu) {
    if constexpr (base == REGRESSION) {
        return smooth_absolute(input - target, mu);
    } else if constexpr (base == CLASSIFICATION) {
        return cross_entropy(sigmoid(input), target, 1 - target);
    } else {
        T sign = 1 - 2 * target;
        Point<T> point = hard_focal<T, GAMMA0>(sign * input, T(0));
        return {point.value, sign * point.slope};
    }
}

// The bin of a gradient norm among equal bins of [0, 1], whose edges are j / bins in float64: closed on the left, the
// last one on both sides. NaN falls into the last.
EQUIPOISE_INLINE int32_t bin_of(float norm, double bins) {
    // no edge is needed: up to MOST_BINS the product is exact, and j / bins is never rounded onto another float
    double place = double(norm) * bins, last = bins - 1;
    return int32_t(place < last ? place : last);
}
EQUIPOISE_INLINE int32_t bin_of(double norm, double bins) {
    double place = norm * bins, last = bins - 1;  // rounded: one bin off at most
    int32_t guess = int32_t(place < last ? place : last);
    double bin = double(guess);
    int32_t above = norm >= (bin + 1) / bins && bin < last, below = norm < bin / bins;
    return guess + above - below;
}

// What is known of the elements of one block. A masked element has the index `bins`.
template <class T> struct Measured {
    T value[BLOCK], slope[BLOCK];
    int32_t index[BLOCK];
};

// How many kept losses are not finite, and whether a kept target leaves [0, 1] (NaN does).
struct Trouble { int32_t broken, outside; };

template <class T, Base base, bool masked>
Trouble measure_block(const T* input, const T* target, const T* mask, int64_t n, T mu, double bins, Measured<T>* out) {
    int32_t broken = 0, outside = 0;
#pragma omp simd reduction(+ : broken) reduction(| : outside)
    for (int64_t i = 0; i < n; i++) {
        bool kept = !masked || mask[i] != 0;
        T x = input[i], y = target[i];  // read before the choice: a read that may not happen is not vectorised by SSE2
        x = kept ? x : T(0);
        y = kept ? y : T(0);
        Point<T> point = base_loss<T, base>(x, y, mu);
        T norm = point.slope < 0 ? -point.slope : point.slope;
        int32_t bin = bin_of(norm, bins);
        out->value[i] = point.value;
        out->slope[i] = point.slope;
        out->index[i] = kept ? bin : int32_t(bins);
        broken += point.value - point.value != 0;
        if (base == CLASSIFICATION) outside |= !(y >= 0 && y <= 1);
    }
    return {broken, outside};
}

// Whether every target is 0 or 1.
template <class T> bool all_hard(const T* target, int64_t n) {
    int32_t others = 0;
#pragma omp simd reduction(| : others)
    for (int64_t i = 0; i < n; i++) others |= (target[i] != 0) & (target[i] != 1);
    return others == 0;
}

// What a block's losses and gradients are multiplied by: `factor` per bin (0 for masked elements), `scale` for gradients.
template <class T> struct Factors { const T *factor, *weight, *upstream; T scale; };

template <class T, bool values, bool slopes>
T plain_block(const Measured<T>& m, int64_t n, const Factors<T>& f, T* value, T* slope) {
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++) {
        T factor = f.factor[m.index[i]];
        T weighed = factor * m.value[i];
        total += weighed;
        if (values) value[i] = weighed;
        if (slopes) slope[i] = (factor * f.scale) * m.slope[i];
    }
    return total;
}

template <class T>
T full_block(const Measured<T>& m, int64_t n, int32_t bins, const Factors<T>& f, T* value, T* slope) {
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++) {
        bool kept = m.index[i] < bins;
        T factor = f.factor[m.index[i]] * f.weight[i];
        T weighed = factor * m.value[i], turned = (factor * f.scale * f.upstream[i]) * m.slope[i];
        weighed = kept ? weighed : T(0);
        total += weighed;
        value[i] = weighed;
        slope[i] = kept ? turned : T(0);
    }
    return total;
}

// Counts indices in several copies: were neighbours in one bin to meet in one counter, each would wait for the last.
class Tally {
  public:
    explicit Tally(int64_t slots) : slots(slots), counters(COPIES * slots) {}

    bool allocated() const { return counters.allocated(); }

    void count(const int32_t* index, int64_t n) {
        int64_t i = 0;
        for (; i + COPIES <= n; i += COPIES)
            for (int64_t copy = 0; copy < COPIES; copy++) counters[COPIES * index[i + copy] + copy]++;
        for (; i < n; i++) counters[COPIES * index[i]]++;
    }

    // Other threads add too; whole numbers have the same sum in any order.
    void add_to(Table<int64_t>& total) {
        for (int64_t slot = 0; slot < slots; slot++) {
            int64_t sum = 0;
            for (int64_t copy = 0; copy < COPIES; copy++) sum += counters[COPIES * slot + copy];
            if (sum != 0) __atomic_fetch_add(&total[slot], sum, __ATOMIC_RELAXED);
        }
    }

  private:
    static constexpr int64_t COPIES = 4;
    int64_t slots;
    Table<int64_t> counters;
};

template <class T> using Measure = Trouble (*)(const T*, const T*, const T*, int64_t, T, double, Measured<T>*);

template <class T> class GHMKernel {
  public:
    explicit GHMKernel(const equipoise_ghm_call& call)
        : call(call), common(call.common), input(input_of(call.common)), gradient{common.gradient, common.dtype},
          chunks((common.size + CHUNK - 1) / CHUNK), counts(call.bins + 1), factor(call.bins + 1) {
        plain = !(call.weight.data || common.upstream.data);
        values = common.loss && common.reduction == EQUIPOISE_NONE;
    }

    int32_t run() {
        if (!counts.allocated() || !factor.allocated()) return EQUIPOISE_OUT_OF_MEMORY;
        bool averages = common.reduction == EQUIPOISE_MEAN && !common.has_divisor;
        if (call.counts || !call.factor || (averages && call.mask.data)) count();
        if (!exhausted && (common.loss || common.gradient)) weigh();
        return (exhausted ? EQUIPOISE_OUT_OF_MEMORY : 0) + (outside ? EQUIPOISE_TARGET_OUT_OF_RANGE : 0);
    }

  private:
    void count() {
        auto body = [](int64_t begin, int64_t end, void* self) { static_cast<GHMKernel*>(self)->count_chunks(begin, end); };
        equipoise_run_chunks(chunks, body, this);
        kept = common.size - counts[call.bins];
        if (!call.counts) return;
        for (int64_t bin = 0; bin < call.bins; bin++) call.counts[bin] = counts[bin];
        call.counts[call.bins] = broken;
    }

    void count_chunks(int64_t begin_chunk, int64_t end_chunk) {
        Tally tally(call.bins + 1);
        if (!tally.allocated()) {
            __atomic_store_n(&exhausted, 1, __ATOMIC_RELAXED);
            return;
        }
        int64_t not_finite = 0;
        for (int64_t chunk = begin_chunk; chunk < end_chunk; chunk++)
            for_each_block<CHUNK, BLOCK>(chunk, common.size, [&](int64_t begin, int64_t n) {
                Measured<T> measured;
                not_finite += measure(begin, n, &measured);
                tally.count(measured.index, n);
            });
        tally.add_to(counts);
        __atomic_fetch_add(&broken, not_finite, __ATOMIC_RELAXED);
    }

    void weigh() {
        Partials partials(chunks);
        if (!partials.allocated()) { exhausted = 1; return; }
        fill_factors();
        double average = common.reduction == EQUIPOISE_MEAN ? double(kept) : 1;
        double divisor = common.has_divisor ? common.divisor : average;
        double whole = divisor == 0 ? 0 : common.scale / divisor;
        scale = T(whole);
        auto body = [&](int64_t chunk) {
            double total = 0;
            for_each_block<CHUNK, BLOCK>(chunk, common.size, [&](int64_t begin, int64_t n) { total += double(weigh_run(begin, n)); });
            partials[chunk] = total;
        };
        for_each_chunk(chunks, body);
        // nothing is kept: 0, whatever the numbers at ignored places
        if (common.loss && !values) *static_cast<T*>(common.loss) = whole == 0 ? T(0) : T(partials.sum() * whole);
    }

    // The weight of each bin. That of an empty bin is never used; that of masked elements stays 0.
    void fill_factors() {
        int64_t occupied = 0;
        for (int64_t bin = 0; bin < call.bins; bin++) occupied += counts[bin] != 0;
        double parts = double(call.all_bins ? call.bins : occupied);
        for (int64_t bin = 0; bin < call.bins; bin++) {
            double own = counts[bin] != 0 ? double(kept) / (double(counts[bin]) * parts) : 0;
            factor[bin] = T(call.factor ? call.factor[bin] : own);
        }
    }

    T weigh_run(int64_t begin, int64_t n) {
        Measured<T> measured;
        measure(begin, n, &measured);
        T weights[BLOCK], upstreams[BLOCK], losses[BLOCK], slopes[BLOCK];
        T* value = values ? static_cast<T*>(common.loss) + begin : losses;
        T* slope = gradient.data ? gradient.place(begin, slopes) : slopes;
        T total = plain ? plain_for(measured, n, {factor.begin(), nullptr, nullptr, scale}, value, slope)
                        : full_block(measured, n, int32_t(call.bins),
                                     {factor.begin(), read_or(call.weight, T(1), begin, n, weights),
                                      read_or(common.upstream, T(1), begin, n, upstreams), scale},
                                     value, slope);
        if (gradient.data) gradient.write(begin, n, slope);
        return total;
    }

    T plain_for(const Measured<T>& measured, int64_t n, const Factors<T>& factors, T* value, T* slope) {
        if (gradient.data) return values ? plain_block<T, true, true>(measured, n, factors, value, slope)
                                         : plain_block<T, false, true>(measured, n, factors, value, slope);
        return values ? plain_block<T, true, false>(measured, n, factors, value, slope)
                      : plain_block<T, false, false>(measured, n, factors, value, slope);
    }

    // How many losses of the block are not finite.
    int64_t measure(int64_t begin, int64_t n, Measured<T>* out) {
        T inputs[BLOCK], targets[BLOCK], masks[BLOCK];
        const T* mask = call.mask.data ? read(call.mask, begin, n, masks) : nullptr;
        const T* target = read(call.target, begin, n, targets);
        Measure<T> measure_one = call.mu > 0          ? measure_for<REGRESSION>()
                                 : all_hard(target, n) ? measure_for<HARD_CLASSIFICATION>()
                                                       : measure_for<CLASSIFICATION>();
        Trouble trouble = measure_one(read(input, begin, n, inputs), target, mask, n, T(call.mu), double(call.bins), out);
        if (trouble.outside) __atomic_store_n(&outside, 1, __ATOMIC_RELAXED);
        return trouble.broken;
    }

    // Called through a pointer, so that both passes run the same instructions: inlined twice, they might be rounded
    // differently, and an element near an edge would be weighed by a bin in which it was not counted.
    template <Base base> Measure<T> measure_for() const {
        return call.mask.data ? measure_block<T, base, true> : measure_block<T, base, false>;
    }

    const equipoise_ghm_call& call;
    const equipoise_common& common;
    equipoise_operand input;
    Output<T> gradient;
    int64_t chunks;
    Table<int64_t> counts;  // the last one: masked elements
    Table<T> factor;
    int64_t kept = common.size, broken = 0;
    T scale = 0;
    bool plain, values;
    int exhausted = 0, outside = 0;
};

}  // namespace

int32_t run_ghm(const equipoise_ghm_call* call) {
    if (call->bins > MOST_BINS) return EQUIPOISE_OUT_OF_MEMORY;
    return call->common.dtype == EQUIPOISE_FLOAT64 ? GHMKernel<double>(*call).run() : GHMKernel<float>(*call).run();
}

}  // namespace EQUIPOISE_LEVEL
