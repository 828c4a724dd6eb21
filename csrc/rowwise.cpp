// Softmax family: loss and gradient of rows that pick one class each. Class indices only; rows may lie side by side
// ([N, C]) or be strided ([N, C, ...]).
#include "convert.h"
#include "lanes.h"
#include "levels.h"
#include "parallel.h"
#include "softmax.h"

namespace EQUIPOISE_LEVEL {
namespace {

constexpr int64_t CHUNK = 16384;   // scores per unit of parallel work, at least one block
constexpr int64_t SCRATCH = 32768; // scores of a block, so that it stays in the second-level cache
constexpr int64_t TOGETHER = 2048; // scores of rows that are handled step by step
constexpr int64_t SEGMENT = 512;   // scores that are added up before the sum goes on in float64
constexpr int64_t LANES = 16;      // a whole number of vectors
constexpr int64_t FEW = 24;         // up to so many classes a loop over the rows of a block beats one over classes

// ------------------------------------------------------------------------------------------- loops along one row

template <class T> EQUIPOISE_INLINE void exponentials(const T* x, T shift, int64_t n, T* e) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++) e[c] = exp_of_minus(shift - x[c]);
}

// The last `rest` of n, in one vector with some that are known already if there are so many and their scores are still there.
template <class T> void exponentials_of_rest(const T* x, T shift, int64_t n, int64_t rest, T* e) {
    if (n >= LANES && x != e)
        exponentials(x + n - LANES, shift, LANES, e + n - LANES);
    else
        exponentials(x + n - rest, shift, rest, e + n - rest);
}

// exp(x[c] - shift) for every class.
template <class T> void exponentials_of_row(const T* x, T shift, int64_t n, T* e) {
    int64_t whole = n / LANES * LANES;
    exponentials(x, shift, whole, e);
    if (whole < n) exponentials_of_rest(x, shift, n, n - whole, e);
}

// The sum of a row: of segments, and then of those in float64, so that long rows keep their digits.
template <class T> T sum_of_row(const T* e, int64_t n) {
    double total = 0;
    for (int64_t begin = 0; begin < n; begin += SEGMENT)
        total += double(sum(e + begin, n - begin < SEGMENT ? n - begin : SEGMENT));
    return T(total);
}

template <class T> void scale_row(T* e, T factor, int64_t n) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++) e[c] *= factor;
}

template <class T> void fill(T* to, T value, int64_t n) {
    for (int64_t c = 0; c < n; c++) to[c] = value;
}

// A row whose largest score is +infinity: beside that the finite ones are nothing, and the difference of two infinite ones
// is NaN. The row is rewritten so that what follows needs no special case.
template <class T> void settle_infinity(T* x, int64_t stride, int64_t classes, T* own, T* shift) {
    int64_t infinite = 0;
    for (int64_t c = 0; c < classes; c++) {
        bool is = x[c * stride] == T(INFINITY);
        infinite += is;
        x[c * stride] = is ? T(0) : T(-INFINITY);
    }
    *own = *own != T(INFINITY) ? T(-INFINITY) : infinite > 1 ? T(NAN) : T(0);
    *shift = 0;
}

// ------------------------------------------------------------------------- smoothed targets: every class has a term

// What the classes of one row share.
template <class T> struct SmoothRow { T shift, gamma; };

// Adds up value and change (H) of all classes whose weight `a` is not 0, and leaves a * h in `a`. `e` becomes p.
template <class T, Focus focus>
void smooth_terms(const T* x, int64_t n, const SmoothRow<T>& row, const TopClass<T>& top, T* e, T* a, T* value, T* change) {
    double values = 0, changes = 0;
    for (int64_t begin = 0; begin < n; begin += SEGMENT) {
        int64_t end = n < begin + SEGMENT ? n : begin + SEGMENT;
        T value_sum = 0, change_sum = 0;
#pragma omp simd reduction(+ : value_sum, change_sum)
        for (int64_t c = begin; c < end; c++) {
            T p = e[c] * top.p;
            Term<T> term = minor_term<T, focus>(p, (row.shift - x[c]) + top.minus_log_p, row.gamma);
            T weighed = a[c] * term.change;
            value_sum += a[c] == 0 ? T(0) : a[c] * term.value;
            change_sum += weighed;
            e[c] = p;
            a[c] = weighed;
        }
        values += double(value_sum);
        changes += double(change_sum);
    }
    *value = T(values);
    *change = T(changes);
}

// The gradient of every class but the top one, in place of p.
template <class T> void smooth_slopes(const T* a, T change, T factor, int64_t n, T* p) {
#pragma omp simd
    for (int64_t c = 0; c < n; c++) p[c] = factor * (p[c] * change - a[c]);
}

// ------------------------------------------------------------------------------------------------------ the kernel

template <class T> class SoftmaxKernel {
  public:
    explicit SoftmaxKernel(const equipoise_softmax_call& call)
        : call(call), common(call.common), classes(call.classes), input(input_of(call.common)),
          gradient{common.gradient, common.dtype}, class_weight(static_cast<const T*>(call.class_weight.data)),
          target_weight(static_cast<const T*>(call.target_weight.data)), gamma(T(call.gamma)) {
        smooth = call.smoothing != 0;
        side_by_side = call.inner == 1;
        by_columns = !side_by_side || (classes <= FEW && !smooth);
        outer = side_by_side ? 1 : call.rows;
        length = side_by_side ? call.rows : call.inner;
        width = SCRATCH / classes / 16 * 16;
        width = width > WIDTH ? WIDTH : width > 0 ? width : by_columns ? 16 : 1;
        together = TOGETHER / classes > 1 ? TOGETHER / classes : 1;
        blocks_each = (length + width - 1) / width;
        blocks = outer * blocks_each;
        per_chunk = CHUNK / (classes * width) > 1 ? CHUNK / (classes * width) : 1;
        chunks = (blocks + per_chunk - 1) / per_chunk;
    }

    int32_t run() {
        Partials partials(chunks);
        if (!partials.allocated()) return EQUIPOISE_OUT_OF_MEMORY;
        double divisor = common.has_divisor ? common.divisor : own_divisor(partials);
        double whole = divisor == 0 ? 0 : common.scale / divisor;
        scale = T(whole);
        auto body = [&](int64_t chunk) {
            Scratch scratch(*this);
            if (!scratch.allocated()) {
                __atomic_store_n(&exhausted, 1, __ATOMIC_RELAXED);
                return;
            }
            double total = 0;
            for_each_block(chunk, [&](RowBlock<T>& rows) { total += run_block(rows, scratch); });
            partials[chunk] = total;
        };
        for_each_chunk(chunks, body);
        if (exhausted) return EQUIPOISE_OUT_OF_MEMORY;
        if (common.reduction != EQUIPOISE_NONE)
            *static_cast<T*>(common.loss) = whole == 0 ? T(0) : T(partials.sum() * whole);
        return outside ? EQUIPOISE_TARGET_OUT_OF_RANGE : 0;
    }

  private:
    // Memory of one chunk: `columns` [classes, width]; rows as they lie in memory, `line` for a block and `x` for what is
    // read at a time; and `row`, `e` and `a` for one row.
    struct Scratch {
        explicit Scratch(const SoftmaxKernel& k) {
            int64_t block = k.classes * k.width, row = k.classes;
            bool hard_rows = !k.smooth && !k.by_columns;
            int64_t sizes[] = {k.by_columns ? block : 0, k.smooth && !k.by_columns ? 0 : block,
                               hard_rows ? k.together * row : row, hard_rows ? row : 0, k.smooth ? row : 0,
                               k.smooth ? row : 0};
            int64_t total = 0;
            for (int64_t size : sizes) total += size;
            data = total <= NEAR ? near : static_cast<T*>(malloc(size_t(total) * sizeof(T)));
            T *next = data, **parts[] = {&columns, &line, &x, &this->row, &e, &a};
            for (int part = 0; part < 6; part++) {
                *parts[part] = next;
                next += sizes[part];
            }
        }
        ~Scratch() { if (data != near) free(data); }
        Scratch(const Scratch&) = delete;
        Scratch& operator=(const Scratch&) = delete;
        bool allocated() const { return data != nullptr; }

        static constexpr int64_t NEAR = 4096;
        T near[NEAR];
        T *data, *columns, *line, *x, *row, *e, *a;
    };

    template <class Body> void for_each_block(int64_t chunk, Body body) {
        int64_t end = (chunk + 1) * per_chunk < blocks ? (chunk + 1) * per_chunk : blocks;
        for (int64_t block = chunk * per_chunk; block < end; block++) {
            RowBlock<T> rows;
            int64_t start = block % blocks_each * width;
            rows.begin = block / blocks_each * length + start;
            rows.n = length - start < width ? length - start : width;
            look_up(rows);
            body(rows);
        }
    }

    // Targets and weights of a block's rows.
    void look_up(RowBlock<T>& rows) {
        T weights[WIDTH], upstreams[WIDTH];
        const T* weight = read_or(call.sample_weight, T(1), rows.begin, rows.n, weights);
        const T* upstream = read_or(common.upstream, T(1), rows.begin, rows.n, upstreams);
        read(call.target, rows.begin, rows.n, rows.target);
        int wrong = 0;
        for (int64_t i = 0; i < rows.n; i++) {
            int64_t target = rows.target[i];
            bool kept = target != call.ignore_index, inside = target >= 0 && target < classes;
            wrong |= kept && !inside;
            target = kept && inside ? target : 0;
            rows.target[i] = target;
            rows.kept[i] = T(kept);
            rows.weight[i] = weight[i] * (target_weight ? target_weight[target] : T(1));
            if (!smooth && class_weight) rows.weight[i] *= class_weight[target];
            rows.factor[i] = scale * upstream[i];
        }
        if (wrong) __atomic_store_n(&outside, 1, __ATOMIC_RELAXED);
    }

    // A mean's divisor: the number of kept rows, or the weights of their classes.
    double own_divisor(Partials& partials) {
        if (common.reduction != EQUIPOISE_MEAN) return 1;
        auto body = [&](int64_t chunk) {
            double total = 0;
            for_each_block(chunk, [&](const RowBlock<T>& rows) {
                for (int64_t i = 0; i < rows.n; i++)
                    if (rows.kept[i] != 0) total += class_weight ? double(class_weight[rows.target[i]]) : 1;
            });
            partials[chunk] = total;
        };
        for_each_chunk(chunks, body);
        return partials.sum();
    }

    double run_block(RowBlock<T>& rows, Scratch& scratch) {
        T values[WIDTH];
        T* value = common.reduction == EQUIPOISE_NONE ? static_cast<T*>(common.loss) + rows.begin : values;
        if (smooth) return smooth_block(rows, scratch, value);
        return by_columns ? hard_columns(rows, scratch, value) : hard_rows(rows, scratch, value);
    }

    T points(const RowBlock<T>& rows, HardRows<T>& hard, T* value) {
        if (call.gamma == 0) return hard_points<T, GAMMA0>(rows, hard, gamma, value);
        if (call.gamma == 1) return hard_points<T, GAMMA1>(rows, hard, gamma, value);
        if (call.gamma == 2) return hard_points<T, GAMMA2>(rows, hard, gamma, value);
        return hard_points<T, POWER>(rows, hard, gamma, value);
    }

    static T shift_for(T most) { return most == T(-INFINITY) ? T(0) : most; }

    // Hard targets, many classes: one row after the other. The exponentials lie where the gradient will.
    double hard_rows(RowBlock<T>& rows, Scratch& scratch, T* value) {
        HardRows<T> hard;
        bool in_place = gradient.data && gradient.direct();
        T* block = in_place ? gradient.place(rows.begin * classes, nullptr) : scratch.line;
        for (int64_t first = 0; first < rows.n; first += together) {
            int64_t last = first + together < rows.n ? first + together : rows.n;
            const T* x = read(input, (rows.begin + first) * classes, (last - first) * classes, scratch.x);
            // without a gradient nobody reads the exponentials again
            T* e = gradient.data ? block + first * classes : block;
            add_rows(rows, hard, first, last, x, e, scratch);
        }
        double total = double(points(rows, hard, value));
        if (!gradient.data) return total;
        for (int64_t i = 0; i < rows.n; i++) {
            T* e = block + i * classes;
            if (rows.kept[i] != 0) {
                scale_row(e, hard.others[i], classes);
                e[rows.target[i]] = hard.slope[i];
            } else {
                fill(e, T(0), classes);
            }
        }
        gradient.write(rows.begin * classes, rows.n * classes, block);
        return total;
    }

    // Some neighbouring rows, step by step: what is done for one row need not wait for the row before. The target is left
    // out before the sum, not subtracted from it, so that the sum keeps its digits however small the others are.
    void add_rows(RowBlock<T>& rows, HardRows<T>& hard, int64_t first, int64_t last, const T* x, T* e, Scratch& scratch) {
        for (int64_t i = first; i < last; i++) rows.shift[i] = shift_for(largest(x + (i - first) * classes, classes));
        for (int64_t i = first; i < last; i++) {
            const T* row = x + (i - first) * classes;
            T* own = e + (i - first) * classes;
            hard.own[i] = row[rows.target[i]];
            if (rows.shift[i] == T(INFINITY)) {
                memcpy(scratch.row, row, size_t(classes) * sizeof(T));
                settle_infinity(scratch.row, 1, classes, &hard.own[i], &rows.shift[i]);
                row = scratch.row;
            }
            exponentials_of_row(row, rows.shift[i], classes, own);
            own[rows.target[i]] = 0;
        }
        for (int64_t i = first; i < last; i++) rows.sum[i] = sum_of_row(e + (i - first) * classes, classes);
    }

    // Hard targets, few classes or strided rows: all rows of the block side by side.
    double hard_columns(RowBlock<T>& rows, Scratch& scratch, T* value) {
        HardRows<T> hard;
        T* e = scratch.columns;
        int64_t n = rows.n;
        load(rows, scratch);
        fill(rows.shift, T(-INFINITY), n);
        for (int64_t c = 0; c < classes; c++)
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                T x = e[c * width + i];
                rows.shift[i] = x > rows.shift[i] ? x : rows.shift[i];
            }
        for (int64_t i = 0; i < n; i++) {
            rows.shift[i] = shift_for(rows.shift[i]);
            hard.own[i] = e[rows.target[i] * width + i];
            if (rows.shift[i] == T(INFINITY)) settle_infinity(e + i, width, classes, &hard.own[i], &rows.shift[i]);
        }
        add_columns(rows, e);
        double total = double(points(rows, hard, value));
        if (!gradient.data) return total;
        for (int64_t c = 0; c < classes; c++)
#pragma omp simd
            for (int64_t i = 0; i < n; i++) {
                T slope = e[c * width + i] * hard.others[i];
                e[c * width + i] = rows.kept[i] != 0 ? slope : T(0);
            }
        for (int64_t i = 0; i < n; i++) e[rows.target[i] * width + i] = hard.slope[i];
        store(rows, scratch);
        return total;
    }

    // Scores become exponentials (0 for the target), and their sums go to `rows.sum`.
    void add_columns(RowBlock<T>& rows, T* e) {
        int64_t n = rows.n;
        double totals[WIDTH] = {};
        for (int64_t c = 0; c < classes; c++) exponentials_of_column(e + c * width, rows.shift, n);
        for (int64_t i = 0; i < n; i++) e[rows.target[i] * width + i] = 0;
        for (int64_t first = 0; first < classes; first += 64) {
            int64_t last = classes < first + 64 ? classes : first + 64;
            T sums[WIDTH] = {};
            for (int64_t c = first; c < last; c++)
#pragma omp simd
                for (int64_t i = 0; i < n; i++) sums[i] += e[c * width + i];
            for (int64_t i = 0; i < n; i++) totals[i] += double(sums[i]);
        }
        for (int64_t i = 0; i < n; i++) rows.sum[i] = T(totals[i]);
    }

    static void exponentials_of_column(T* x, const T* shift, int64_t n) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) x[i] = exp_of_minus(shift[i] - x[i]);
    }

    // Smoothed targets: one row after the other.
    double smooth_block(RowBlock<T>& rows, Scratch& scratch, T* value) {
        if (by_columns) load(rows, scratch);
        double total = 0;
        for (int64_t i = 0; i < rows.n; i++) {
            const T* x = scratch.x;
            if (by_columns)
                for (int64_t c = 0; c < classes; c++) scratch.x[c] = scratch.columns[c * width + i];
            else
                x = read(input, (rows.begin + i) * classes, classes, scratch.x);
            if (rows.kept[i] != 0) {
                value[i] = smooth_row(x, rows, i, scratch);
                total += double(value[i]);
            } else {
                value[i] = 0;
                fill(scratch.e, T(0), classes);
            }
            if (!gradient.data) continue;
            if (by_columns) {
                for (int64_t c = 0; c < classes; c++) scratch.columns[c * width + i] = scratch.e[c];
            } else {
                int64_t begin = (rows.begin + i) * classes;
                T* place = gradient.place(begin, scratch.e);
                if (gradient.direct()) memcpy(place, scratch.e, size_t(classes) * sizeof(T));
                gradient.write(begin, classes, scratch.e);
            }
        }
        if (by_columns && gradient.data) store(rows, scratch);
        return total;
    }

    // The loss of one row; its gradient goes to scratch.e. The top class is taken apart from the others: all of those have
    // p <= 1/2, and of its own gradient -a h (1 - p) + p H nothing cancels.
    T smooth_row(const T* x, const RowBlock<T>& rows, int64_t i, Scratch& scratch) {
        T *e = scratch.e, *a = scratch.a;
        T most = largest(x, classes), shift = shift_for(most);
        int64_t best = 0;
        while (best + 1 < classes && x[best] != most) best++;
        T even = T(call.smoothing / double(classes));
        for (int64_t c = 0; c < classes; c++) a[c] = class_weight ? even * class_weight[c] : even;
        int64_t target = rows.target[i];
        a[target] += T(1 - call.smoothing) * (class_weight ? class_weight[target] : T(1));
        T own = a[best];
        a[best] = 0;
        exponentials_of_row(x, shift, classes, e);
        e[best] = 0;
        T odds = sum_of_row(e, classes);
        T others, change;
        TopClass<T> top = terms(x, {shift, gamma}, odds, e, a, &others, &change);
        T whole = change + own * top.term.change;
        T factor = rows.weight[i] * rows.factor[i];
        smooth_slopes(a, whole, factor, classes, e);
        e[best] = factor * (top.p * change - own * top.term.change * top.q);
        return rows.weight[i] * ((own == 0 ? T(0) : own * top.term.value) + others);
    }

    TopClass<T> terms(const T* x, const SmoothRow<T>& row, T odds, T* e, T* a, T* value, T* change) {
        if (call.gamma == 0) return terms_for<GAMMA0>(x, row, odds, e, a, value, change);
        if (call.gamma == 1) return terms_for<GAMMA1>(x, row, odds, e, a, value, change);
        if (call.gamma == 2) return terms_for<GAMMA2>(x, row, odds, e, a, value, change);
        return terms_for<POWER>(x, row, odds, e, a, value, change);
    }

    template <Focus focus>
    TopClass<T> terms_for(const T* x, const SmoothRow<T>& row, T odds, T* e, T* a, T* value, T* change) {
        TopClass<T> top = top_class<T, focus>(odds, gamma);
        smooth_terms<T, focus>(x, classes, row, top, e, a, value, change);
        return top;
    }

    // The scores of a block into columns, class by class.
    void load(const RowBlock<T>& rows, Scratch& scratch) {
        int64_t n = rows.n;
        if (side_by_side) {
            const T* from = read(input, rows.begin * classes, n * classes, scratch.line);
            for (int64_t i = 0; i < n; i++)
                for (int64_t c = 0; c < classes; c++) scratch.columns[c * width + i] = from[i * classes + c];
            return;
        }
        for (int64_t c = 0; c < classes; c++) {
            T* to = scratch.columns + c * width;
            const T* from = read(input, place_of(rows, c), n, to);
            if (from != to) memcpy(to, from, size_t(n) * sizeof(T));
        }
    }

    // The gradient of a block out of the columns.
    void store(const RowBlock<T>& rows, Scratch& scratch) {
        int64_t n = rows.n;
        if (side_by_side) {
            T* to = gradient.place(rows.begin * classes, scratch.line);
            for (int64_t i = 0; i < n; i++)
                for (int64_t c = 0; c < classes; c++) to[i * classes + c] = scratch.columns[c * width + i];
            gradient.write(rows.begin * classes, n * classes, to);
            return;
        }
        for (int64_t c = 0; c < classes; c++) {
            const T* from = scratch.columns + c * width;
            if (gradient.direct()) memcpy(gradient.place(place_of(rows, c), nullptr), from, size_t(n) * sizeof(T));
            gradient.write(place_of(rows, c), n, from);
        }
    }

    // Where in memory the scores of class c of a block of strided rows begin.
    int64_t place_of(const RowBlock<T>& rows, int64_t c) const {
        return (rows.begin / length * classes + c) * length + rows.begin % length;
    }

    const equipoise_softmax_call& call;
    const equipoise_common& common;
    int64_t classes;
    equipoise_operand input;
    Output<T> gradient;
    const T *class_weight, *target_weight;
    T gamma, scale = 0;
    bool smooth, side_by_side, by_columns;
    // rows lie in `outer` groups of `length` neighbours; a block holds up to `width` of one group
    int64_t outer, length, width, together, blocks_each, blocks, per_chunk, chunks;
    int outside = 0, exhausted = 0;
};

}  // namespace

int32_t run_softmax(const equipoise_softmax_call* call) {
    return call->common.dtype == EQUIPOISE_FLOAT64 ? SoftmaxKernel<double>(*call).run()
                                                   : SoftmaxKernel<float>(*call).run();
}

}  // namespace EQUIPOISE_LEVEL
