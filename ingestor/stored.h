#ifndef ING_STORED_H
#define ING_STORED_H
/*
 * Snapshots in the object store, for members that are left without a disk when nobody has one to give:
 *
 *   catalogue/snapshots/<pppp>/<incarnation>-<seq>-<draw>/chunks-<serial>   as they lie in the folder (SNAPSHOT.md)
 *   catalogue/snapshots/<pppp>/<incarnation>-<seq>-<draw>/head
 *   catalogue/snapshots/<pppp>/<incarnation>-<seq>-<draw>/index             last: without it there is none
 *
 * numbers with 16 hex digits, so that names sort as the log does. The draw is random: who lost its disk begins its
 * serials anew, and of two that take themselves for the owner each has names of its own. Each is whole by itself.
 *
 * The owner puts its last snapshot there now and then (`ingestor.snapshot_store_interval`), from the files as they
 * were published, one partition of an ingestor at a time; then all but the last two go, those of a log before it first.
 * A put is only begun under a lease, and nothing depends on who did it: what is read is checked against the
 * catalogue and the log, as what lies on a disk is, and where none fits, the log has everything (snap_priv.h).
 *
 * A member whose folder has no snapshot that fits, and whose peers gave none, takes the newest that the catalogue
 * which it has just read allows: of its incarnation, not before `replay_from`, and made when the catalogue was not
 * newer than this one, since what its owner had let go of is in that. Every byte is compared with the index before
 * it is used. Once in each coming of a partition: one that the log does not agree with is not fetched again.
 *
 *   index:  "KOASTORE"  u32 version = 1  u32 partition  u64 incarnation  u64 seq  u64 draw  u64 serial of the head
 *           u64 revision of the catalogue  i64 ms since the epoch  u32 count  count times {u64 serial, 0: the head;
 *           u64 size; u64 hash: XXH3-64 of each MiB, seeded with that of the one before, from 0 on}
 *           u32 crc32c of all before.        The head comes first. Little-endian.
 *
 * Where that is switched off, what is there stays: whoever does may remove `catalogue/snapshots/` as a whole.
 *
 * A crash leaves: objects without an index, which the next put of the partition removes, but for those that are
 * younger than the last two; a folder with files of chunks and no head, as a fetch from a peer does.
 */
#include "ingestor/snap_priv.h"

enum { ING_STORED_VERSION = 1, ING_STORED_FILES_MAX = ING_FILES_MAX + 1, ING_STORED_PIECE = 1 << 20 };
enum { ING_STORED_HEAD = 68, ING_STORED_FILE = 24,
       ING_STORED_INDEX_MAX = ING_STORED_HEAD + ING_STORED_FILE * ING_STORED_FILES_MAX + 4 };

struct ing_stored_name { uint64_t incarnation, seq, draw; };
struct ing_stored_file { uint64_t serial, size_bytes, hash; };
struct ing_stored {
    uint32_t partition;
    struct ing_stored_name name;
    uint64_t serial, catalogue;
    int64_t  time_ms;
    uint32_t file_count;
    struct ing_stored_file files[ING_STORED_FILES_MAX];        /* [0]: the head */
};

/* ---- stored_index.c: bytes and keys, pure; any thread ---- */
void ing_stored_put(const struct ing_stored *s, struct kl_buf *out);
/* KL_ECORRUPT with words. Its serials are different ones, its sizes bounded. */
enum kl_code ing_stored_get(struct kl_span in, struct ing_stored *s, struct kl_err *err);
/* `file`: "", "index", ... Of a key of the partition: which snapshot, and what of it (borrowed); false: none. */
void ing_stored_key(uint32_t partition, const struct ing_stored_name *name, const char *file, char *key);
bool ing_stored_key_parse(const char *key, uint32_t partition, struct ing_stored_name *name, const char **file);
void ing_stored_file_key(const struct ing_stored *s, uint32_t file, char *key);
void ing_stored_prefix(uint32_t partition, char *key);
int  ing_stored_cmp(const struct ing_stored_name *a, const struct ing_stored_name *b);
/* The hash of a file, piece by piece: all but the last of ING_STORED_PIECE bytes. */
static inline uint64_t ing_stored_hash(uint64_t before, const void *piece, size_t size)
{
    return kl_hash64_seed(piece, size, before);
}

/* ---- stored_put.c: on the partition's loop, but for _open, which belongs to the pass' worker ---- */
/* Is one to be put now, for which a pass has to be made? */
bool ing_storing_due(struct ing_partition *p);
/* When a pass begins: NULL where none is to be put now. It is the pass' until it is sent or dropped. */
struct ing_storing *ing_storing_new(struct ing_partition *p, const struct ing_snap_header *h);
/* Opens the files that were just published, before any of them can go. A failure: it will not be sent. */
void ing_storing_open(struct ing_storing *s, const uint64_t *serials, uint32_t count);
void ing_storing_send(struct ing_storing *s);
void ing_storing_drop(struct ing_storing *s);

/* ---- stored_fetch.c: work, while the partition loads; its catalogue is read, its folder is open and has no
 * snapshot that fits. True: now it has one. ---- */
bool ing_stored_fetch(struct ing_partition *p);
#endif
