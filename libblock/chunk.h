#ifndef BLK_CHUNK_H
#define BLK_CHUNK_H
/*
 * A chunk: up to BLK_CHUNK_MAX samples of one series, compressed, bit-exact for every double.
 * The bytes (FORMAT.md has them all): u8 kind, varint count, zigzag first time, ... Every decode
 * checks bounds: hostile or flipped bytes give KL_ECORRUPT, never a read outside or a wrong size;
 * whether the content is what was written is the frame's checksum's business.
 * Pure functions on the caller's memory; any thread; scratch on the stack is below 32 KiB.
 * The kernels (scalar, AVX2, AVX-512) are chosen once at run time; all give the same bytes.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/hist.h"

enum { BLK_CHUNK_MAX = 512, BLK_CHUNK_USUAL = 240 };
enum blk_chunk_kind { BLK_FLOATS = 1, BLK_HISTS = 2 };

struct blk_chunk_head { enum blk_chunk_kind kind; uint32_t count; int64_t first_ms, last_ms; };

/* times ascending, strictly. `starts_ms` may be NULL: start time of each sample, 0 unknown. */
void blk_chunk_encode(const int64_t *times_ms, const double *values, const int64_t *starts_ms,
                      uint32_t count, struct kl_buf *out);
/* The same chunk for one reader, soon: nothing is searched for, so it costs a copy of the values. */
void blk_chunk_encode_quick(const int64_t *times_ms, const double *values, const int64_t *starts_ms,
                            uint32_t count, struct kl_buf *out);
enum kl_code blk_chunk_peek(struct kl_span chunk, struct blk_chunk_head *head, struct kl_err *err);
bool blk_chunk_has_starts(struct kl_span chunk);       /* by its first byte alone */
/* Into arrays of at least head.count (BLK_CHUNK_MAX is always enough). `starts_ms` may be NULL;
 * else it gets zeros where the chunk has none. */
enum kl_code blk_chunk_decode(struct kl_span chunk, int64_t *times_ms, double *values,
                              int64_t *starts_ms, uint32_t *count, struct kl_err *err);

void blk_chunk_encode_hists(const int64_t *times_ms, const struct kl_hist *hists,
                            const int64_t *starts_ms, uint32_t count, struct kl_buf *out);
/* The histograms' arrays lie in `arena`. */
enum kl_code blk_chunk_decode_hists(struct kl_span chunk, struct kl_arena *arena, int64_t *times_ms,
                                    struct kl_hist *hists, int64_t *starts_ms, uint32_t *count,
                                    struct kl_err *err);
/* The codecs chosen, for `koalemos inspect`: "decimal/delta-for". Static text. */
const char *blk_chunk_codec(struct kl_span chunk);
#endif
