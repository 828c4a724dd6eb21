// Chunks of fixed size on torch's own thread pool. What a chunk computes depends on its index alone, and partial results
// are added in the order of the chunks: results do not depend on the number of threads.
#pragma once
#include <stdint.h>
#include <stdlib.h>

extern "C" {
typedef void (*equipoise_chunk_body)(int64_t begin, int64_t end, void* context);
typedef int32_t (*equipoise_parallel_for)(int64_t begin, int64_t end, int64_t grain, equipoise_chunk_body, void* context);
}

// Calls body(begin, end, context) on ranges that cover [0, chunks), in parallel where a pool was handed over.
void equipoise_run_chunks(int64_t chunks, equipoise_chunk_body body, void* context);

namespace EQUIPOISE_LEVEL {

// `body(chunk)` for every chunk in [0, chunks).
template <class Body> static void for_each_chunk(int64_t chunks, Body& body) {
    equipoise_run_chunks(
        chunks,
        [](int64_t begin, int64_t end, void* context) {
            for (int64_t chunk = begin; chunk < end; chunk++) (*static_cast<Body*>(context))(chunk);
        },
        &body);
}

// One double per chunk, on the stack where there are few.
class Partials {
  public:
    explicit Partials(int64_t chunks)
        : count(chunks), data(chunks <= FEW ? few : static_cast<double*>(malloc(size_t(chunks) * sizeof(double)))) {}
    ~Partials() { if (data != few) free(data); }
    Partials(const Partials&) = delete;
    Partials& operator=(const Partials&) = delete;

    bool allocated() const { return data != nullptr; }
    double& operator[](int64_t chunk) { return data[chunk]; }
    double sum() const {
        double total = 0;
        for (int64_t chunk = 0; chunk < count; chunk++) total += data[chunk];
        return total;
    }

  private:
    static constexpr int64_t FEW = 64;
    int64_t count;
    double few[FEW];
    double* data;
};

}  // namespace EQUIPOISE_LEVEL
