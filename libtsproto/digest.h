#ifndef TSP_DIGEST_H
#define TSP_DIGEST_H
/*
 * What members of a partition tell of the cuts that they obeyed, so that any two of them can be compared:
 * a key of the KV each, "digest.<pppp>.<member>", with the last few cuts.
 *
 *   "KD"  u8 version = 2  u8 count  u64 incarnation of the log, then by rising seq
 *   { u64 seq  i64 end_ms  u64 log_from  u64 log_hash  u64 after  u8 flags: 1 sure, 2 all four sums are told
 *     4 x { u64 count  u64 hi  u64 lo } }  and the CRC-32C of all before, u32
 *   Version 1 had no flag 2, and of the sums the first alone; it is read, and compared as far as it goes.
 *
 * Two things are told of a cut, since two can be wrong.
 *
 *   The log.   A chain of hashes over the records from log_from (the cut before, whoever made it) up to the
 *              cut's own, without it. Members that have the same log_from and another hash were given
 *              different records by the log: it numbered them differently, or lost and replaced some.
 *              log_from 0: this member has not read them all.
 *   The content. What the cut sealed, as four sums: over its samples, over their start times, and over the exemplars
 *              and the metadata that were held when it came. They are the same in whatever order things came, in
 *              whatever chunks they lie and however often one was sent. Of two values for one time the one that
 *              counts is in them, and of two texts for one metric. They say nothing of bytes.
 *
 * What a cut seals is a function of the log up to it and of the cuts obeyed before it, and of nothing else,
 * as long as a member has read all of that as others did. `after` stands for those cuts; where members
 * differ in it (one has passed over a cut of an owner that was one no more, or began with a catalogue
 * that was rebuilt) their contents are not compared. Nor where one is not sure: it replayed samples without
 * the definitions that others had, or may have applied a repeated record that others passed over.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/hash.h"
#include "libtsproto/placement.h"

#define TSP_DIGEST_PREFIX "digest."
/* "repair.<pppp>.<member>": an operator wishes that this member makes its state of the partition anew, from
 * the catalogue and the log. It removes the key when it begins. The value says nothing. */
#define TSP_REPAIR_PREFIX "repair."
enum { TSP_DIGEST_CUTS = 8, TSP_DIGEST_WORDS_MAX = 500 };

/* ---- the sum ---- */

enum tsp_digest_kind { TSP_DIGEST_SAMPLES, TSP_DIGEST_STARTS, TSP_DIGEST_EXEMPLARS, TSP_DIGEST_METADATA, TSP_DIGEST_KINDS };
struct tsp_digest_sum { uint64_t count, hi, lo; };

/* A sample of the series that `key` stands for: a hash of tenant and labels. The product changes with
 * every change of one of its factors; sums of 128 bits do not mind the order. */
static inline void tsp_digest_add(struct tsp_digest_sum *s, struct kl_fp key, int64_t time_ms, uint64_t value)
{
    __extension__ typedef unsigned __int128 wide;
    wide sum = ((wide)s->hi << 64 | s->lo) + (wide)((uint64_t)time_ms ^ key.hi) * (value ^ key.lo);

    s->hi = (uint64_t)(sum >> 64);
    s->lo = (uint64_t)sum;
    s->count++;
}

/* Something that is there once, by a hash of all that it is. */
static inline void tsp_digest_item(struct tsp_digest_sum *s, struct kl_fp hash)
{
    s->lo += hash.lo;
    s->hi += hash.hi + (s->lo < hash.lo);
    s->count++;
}

/* ---- the key ---- */

struct tsp_digest_cut {
    uint64_t seq;
    int64_t  end_ms;                                   /* INT64_MAX: of everything */
    uint64_t log_from, log_hash;
    uint64_t after;
    bool     sure, all;                                /* all: not only samples were summed up */
    struct tsp_digest_sum of[TSP_DIGEST_KINDS];
};
struct tsp_digest { uint64_t incarnation; uint32_t count; struct tsp_digest_cut cuts[TSP_DIGEST_CUTS]; };

void         tsp_digest_key(char *key, size_t size, uint32_t partition, const char *member);
/* Whose key it is; false: it is no such key. */
bool         tsp_digest_of(const char *key, uint32_t *partition, char member[TSP_NAME_MAX + 1]);
void         tsp_repair_key(char *key, size_t size, uint32_t partition, const char *member);
bool         tsp_repair_of(const char *key, uint32_t *partition, char member[TSP_NAME_MAX + 1]);
void         tsp_digest_encode(const struct tsp_digest *d, struct kl_buf *out);
enum kl_code tsp_digest_decode(struct kl_span bytes, struct tsp_digest *d, struct kl_err *err);
/* One more, above all that there are; where there is no room the first goes. */
void         tsp_digest_tell(struct tsp_digest *d, const struct tsp_digest_cut *cut);

enum tsp_digest_verdict { TSP_DIGEST_OPEN, TSP_DIGEST_SAME, TSP_DIGEST_OTHER_LOG, TSP_DIGEST_OTHER_CONTENT };
/* OPEN: they cannot be compared. A difference in the log is the one that is told. */
enum tsp_digest_verdict tsp_digest_compare(const struct tsp_digest_cut *a, const struct tsp_digest_cut *b);

/* ---- all that was told ---- */

struct tsp_digests;                                    /* of one thread */
struct tsp_difference {
    uint32_t partition;
    const char *a, *b;                                 /* members; a comes first by name */
    const struct tsp_digest_cut *of_a, *of_b;
    enum tsp_digest_verdict verdict;                   /* OTHER_LOG or OTHER_CONTENT */
};
struct tsp_digests *tsp_digests_new(void);
void                tsp_digests_free(struct tsp_digests *d);
/* A key as a watch tells it; value.at NULL: it is gone. False: it is no such key, or it cannot be read and
 * counts as gone; then err has words. */
bool                tsp_digests_put(struct tsp_digests *d, const char *key, struct kl_span value,
                                    uint32_t *partition, struct kl_err *err);
/* Every difference, by partition, members and cut: of one partition, or UINT32_MAX: of all. Returns how many;
 * each may be NULL. `same`, if not NULL: what two members were found to have alike. */
struct tsp_alike { uint32_t count; uint64_t last_seq; };
uint32_t            tsp_digests_differ(const struct tsp_digests *d, uint32_t partition,
                                       void (*each)(void *ctx, const struct tsp_difference *x), void *ctx,
                                       struct tsp_alike *same);
/* How many of the other members have the same at that cut as `a`, and as `b`. */
void                tsp_digests_votes(const struct tsp_digests *d, const struct tsp_difference *x, uint32_t *for_a,
                                      uint32_t *for_b);
/* For people: members, cut, and what each of them has. */
void                tsp_difference_words(const struct tsp_difference *x, char *out, size_t size);
#endif
