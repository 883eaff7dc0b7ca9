#ifndef TSP_LOGMARK_H
#define TSP_LOGMARK_H
/*
 * What the cell holds for true of a partition's log: a key of the KV, "log.<pppp>", changed by
 * compare-and-set by the partition's owner alone.
 *
 *   "KL"  u8 version = 1  u8 count  u64 the accepted incarnation of the stream, then, oldest first:
 *   { u64 incarnation  u64 first_seq  i64 from_ms  i64 to_ms } and the CRC-32C of all before, u32
 *
 * A doorman takes no ack of another incarnation. Each entry is an incarnation that ended: records
 * from first_seq on are lost, if there were any; they were written between from_ms and to_ms.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"

#define TSP_LOGMARK_PREFIX "log."
enum { TSP_LOST_MAX = 16 };

struct tsp_lost { uint64_t incarnation, first_seq; int64_t from_ms, to_ms; };
struct tsp_logmark { uint64_t incarnation; uint32_t lost_count; struct tsp_lost lost[TSP_LOST_MAX]; };

void         tsp_logmark_key(char *key, size_t size, uint32_t partition);
/* Which partition a key is of; false: it is no such key. */
bool         tsp_logmark_of(const char *key, uint32_t *partition);
void         tsp_logmark_encode(const struct tsp_logmark *m, struct kl_buf *out);
enum kl_code tsp_logmark_decode(struct kl_span bytes, struct tsp_logmark *m, struct kl_err *err);
/* Another incarnation is accepted. Where there is no room the two oldest losses become one. */
void         tsp_logmark_turn(struct tsp_logmark *m, uint64_t incarnation, const struct tsp_lost *lost);
void         tsp_lost_words(const struct tsp_lost *l, char *out, size_t size);

/*
 * Records that an operator told everybody to pass over: a key "skip.<pppp>".
 *
 *   "KS"  u8 version = 1  u8 count  { u64 incarnation  u64 seq }  CRC-32C of all before, u32
 */
#define TSP_LOGSKIP_PREFIX "skip."
enum { TSP_SKIPS_MAX = 64 };
struct tsp_skip { uint64_t incarnation, seq; };
struct tsp_logskip { uint32_t count; struct tsp_skip at[TSP_SKIPS_MAX]; };

void         tsp_logskip_key(char *key, size_t size, uint32_t partition);
void         tsp_logskip_encode(const struct tsp_logskip *s, struct kl_buf *out);
enum kl_code tsp_logskip_decode(struct kl_span bytes, struct tsp_logskip *s, struct kl_err *err);
bool         tsp_logskip_has(const struct tsp_logskip *s, uint64_t incarnation, uint64_t seq);
/* Those of other incarnations go first where there is no room; KL_ELIMIT: there is none. */
enum kl_code tsp_logskip_add(struct tsp_logskip *s, uint64_t incarnation, uint64_t seq, struct kl_err *err);
#endif
