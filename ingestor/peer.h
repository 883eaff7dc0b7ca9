#ifndef ING_PEER_H
#define ING_PEER_H
/*
 * A snapshot from a peer: a member whose disk has none of a partition asks the partition's owner for its
 * own, file by file, in pieces, before it reads the catalogue and the log as ever. What comes is put into the
 * snapshot's folder under the names it has there and read as if it had been made here: every byte is checked
 * again, and whatever does not fit is not used. So a peer that is away, busy, or lies costs a longer replay.
 *
 *   question, to snapshot.<pppp>:   "KPQ1"  u32 partition  u64 file  u64 snapshot  u64 offset
 *   answer:                         "KPA1"  u32 crc32c of all that follows  u64 snapshot  u64 size of the file
 *                                   u64 offset  the piece: up to ING_PEER_PIECE bytes, at least one but of a file that
 *                                   is empty (of a pass that found nothing to spill)
 *
 * `file` 0 is the head, else the file of chunks with that serial; `snapshot` is the head's serial that all
 * pieces must be of, 0 in the first question. The owner's next pass publishes another head: then the answer
 * is KL_EAGAIN, and what came so far is dropped; that one is asked for, a few times.
 *
 * The snapshot is read before the catalogue's pointer is: so the catalogue has whatever its owner had let go
 * of when it was made.
 */
#include "ingestor/ing_priv.h"

enum { ING_PEER_PIECE = 512 * 1024, ING_PEER_QUESTION = 32, ING_PEER_HEAD = 32 };
#define ING_PEER_FILE_MAX (INT64_C(1) << 38)

struct ing_peer_question { uint32_t partition; uint64_t file, snapshot, offset; };
void         ing_peer_question_put(const struct ing_peer_question *q, uint8_t out[ING_PEER_QUESTION]);
enum kl_code ing_peer_question_get(struct kl_span in, struct ing_peer_question *q, struct kl_err *err);
struct ing_peer_answer { uint64_t snapshot, size, offset; struct kl_span piece; };
void         ing_peer_answer_put(const struct ing_peer_answer *a, struct kl_buf *out);
/* KL_ECORRUPT: not as drawn, damaged, or not what was asked for. The piece lies in `in`. */
enum kl_code ing_peer_answer_get(struct kl_span in, const struct ing_peer_question *q,
                                 struct ing_peer_answer *a, struct kl_err *err);

/* ---- peer_serve.c: on the partition's loop; the owner answers, with a worker that reads ---- */
void ing_peer_serve(struct ing_partition *p, bool owning);

/* ---- peer_fetch.c: on the partition's loop, while it loads. `done` always comes, later. ---- */
void ing_peer_fetch(struct ing_partition *p, void (*done)(struct ing_partition *p));
#endif
