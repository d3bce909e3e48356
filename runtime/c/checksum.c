/* checksum.c: a checksum of the weights, and of other files, at memory speed.
 *
 * A chunk is 2048 32-bit little-endian words, the last one shorter and its last word filled up
 * with zeros. Its sum is that of word[i] * key[i] mod 2^64, with a fixed, odd, pseudo-random key
 * per place: a change of one word always changes the sum, and a change of several leaves it the
 * same with a chance of about 2^-64. Every chunk's sum is mixed with its place, and all are added:
 * any split over threads gives the same total. It guards against damage, as the checksums of file
 * systems do; the SHA-256 in the manifest is the one that guards against intent.
 * runtime/checksum.py computes the same. */

#include "internal.h"

#include <stdatomic.h>
#include <string.h>

#define CHUNK_WORDS 2048
#define CHUNK_BYTES (4 * CHUNK_WORDS)
#define MAX_PARTS 256

/* The finalizer of splitmix64. */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Keys stand as two halves, so that a product is two 32 x 32 bit ones: what SIMD has. */
struct checksum {
    uint32_t low[CHUNK_WORDS], high[CHUNK_WORDS];
    const char *data;
    int64_t bytes;
    int64_t parts;
    atomic_int_fast64_t next; /* the first part that nobody has taken */
    uint64_t totals[MAX_PARTS];
};

static uint32_t load_word(const char *data, size_t bytes)
{
    uint32_t word = 0;
    memcpy(&word, data, bytes);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap32(word);
#endif
    return word;
}

/* The upper half of a product counts mod 2^32 only, which has twice the SIMD lanes. */
static inline uint64_t sum_words(const struct checksum *sum, const char *data, int64_t words)
{
    uint64_t low = 0;
    uint32_t high = 0;
    for (int64_t i = 0; i < words; i++) {
        uint32_t word = load_word(data + 4 * i, 4);
        low += (uint64_t)word * sum->low[i];
        high += word * sum->high[i];
    }
    return low + ((uint64_t)high << 32);
}

/* With a constant number of words the loop becomes SIMD at -O2 too, and is twice as fast. */
static uint64_t whole_chunk_sum(const struct checksum *sum, const char *data)
{
    return sum_words(sum, data, CHUNK_WORDS);
}

static uint64_t last_chunk_sum(const struct checksum *sum, const char *data, int64_t bytes)
{
    uint64_t total = sum_words(sum, data, bytes / 4);
    int64_t words = bytes / 4, tail = bytes % 4;
    if (!tail)
        return total;
    uint64_t word = load_word(data + 4 * words, (size_t)tail);
    return total + word * sum->low[words] + (word * sum->high[words] << 32);
}

static uint64_t chunk_sum(const struct checksum *sum, const char *data, int64_t bytes)
{
    return bytes >= CHUNK_BYTES ? whole_chunk_sum(sum, data) : last_chunk_sum(sum, data, bytes);
}

static uint64_t part_sum(const struct checksum *sum, int64_t part)
{
    int64_t chunks = (sum->bytes + CHUNK_BYTES - 1) / CHUNK_BYTES;
    uint64_t total = 0;
    for (int64_t c = part * chunks / sum->parts; c < (part + 1) * chunks / sum->parts; c++) {
        uint64_t one = chunk_sum(sum, sum->data + c * CHUNK_BYTES, sum->bytes - c * CHUNK_BYTES);
        total += mix(one + (uint64_t)(c + 1) * 0x9e3779b97f4a7c15u);
    }
    return total;
}

/* Threads take parts as they come: at start-up a thread may be slow to get a CPU. */
static void sum_parts(void *args, int64_t begin, int64_t end, int thread)
{
    struct checksum *sum = args;
    (void)begin;
    (void)end;
    (void)thread;
    for (int64_t part; (part = atomic_fetch_add(&sum->next, 1)) < sum->parts;)
        sum->totals[part] = part_sum(sum, part);
}

static void begin(struct checksum *sum, const void *data, int64_t bytes)
{
    sum->data = data;
    sum->bytes = bytes;
    /* Below 1 MB a thread's start costs more than it saves. */
    sum->parts = bytes < (1 << 20) ? 1 : MAX_PARTS;
    atomic_init(&sum->next, 0);
    for (uint64_t i = 0; i < CHUNK_WORDS; i++) {
        uint64_t key = mix((i + 1) * 0x9e3779b97f4a7c15u) | 1;
        sum->low[i] = (uint32_t)key;
        sum->high[i] = (uint32_t)(key >> 32);
    }
}

static uint64_t added(const struct checksum *sum)
{
    uint64_t total = 0;
    for (int64_t part = 0; part < sum->parts; part++)
        total += sum->totals[part];
    return total;
}

uint64_t TAPEOUT_NAME(checksum)(tapeout_session *session)
{
    struct checksum sum;
    begin(&sum, session->mapped, session->weights_bytes);
    rt_parallel(session, sum_parts, &sum, sum.parts > 1 ? session->threads : 1);
    return added(&sum);
}

uint64_t TAPEOUT_NAME(checksum_of)(const void *data, int64_t bytes)
{
    struct checksum sum;
    begin(&sum, data, bytes);
    sum_parts(&sum, 0, 1, 0);
    return added(&sum);
}
