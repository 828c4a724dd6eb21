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

// `body(begin, n)` for the blocks of up to BLOCK elements of one chunk of up to CHUNK.
template <int64_t CHUNK, int64_t BLOCK, class Body> static void for_each_block(int64_t chunk, int64_t size, Body body) {
    int64_t end = (chunk + 1) * CHUNK < size ? (chunk + 1) * CHUNK : size;
    for (int64_t begin = chunk * CHUNK; begin < end; begin += BLOCK) body(begin, end - begin < BLOCK ? end - begin : BLOCK);
}

// Numbers that start at 0, on the stack where they are few.
template <class Number, int64_t FEW = 256> class Table {
  public:
    explicit Table(int64_t size)
        : data(size <= FEW ? few : static_cast<Number*>(calloc(size_t(size), sizeof(Number)))) {}
    ~Table() { if (data != few) free(data); }
    Table(const Table&) = delete;
    Table& operator=(const Table&) = delete;

    bool allocated() const { return data != nullptr; }
    Number& operator[](int64_t at) { return data[at]; }
    Number* begin() { return data; }

  private:
    Number few[FEW] = {};
    Number* data;
};

// One double per chunk.
class Partials : public Table<double, 64> {
  public:
    explicit Partials(int64_t chunks) : Table(chunks), count(chunks) {}

    double sum() {
        double total = 0;
        for (int64_t chunk = 0; chunk < count; chunk++) total += (*this)[chunk];
        return total;
    }

  private:
    int64_t count;
};

}  // namespace EQUIPOISE_LEVEL
