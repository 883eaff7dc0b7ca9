#ifndef ING_SNAP_PRIV_H
#define ING_SNAP_PRIV_H
/*
 * A partition's snapshot: everything that its heads hold, in files (SNAPSHOT.md has every byte).
 *
 *   snapshots/<pppp>/head              labels, series, open tails, late samples, refs, orphans, extras,
 *                                      and where sealed chunks lie; the log position it stands for
 *   snapshots/<pppp>/chunks-<serial>   spilled chunks: made by that pass, never changed, used by
 *                                      later heads until a cut has taken the last of them
 *
 * A pass goes over the heads slice by slice: the loop encodes a slice, a worker writes it, and between
 * two slices the loop lives on. Its position is the record applied when it began; what a slice holds
 * may be younger, up to the record applied at its end, and replaying over it changes nothing. A cut
 * that is read meanwhile, or anything else that frees what a slice may name, ends the pass: the last
 * snapshot stays. When the head is published, sealed chunks that it holds in a file leave memory.
 *
 * The log is never purged because of a snapshot: what no catalogued fileset has can always be replayed.
 * So a snapshot that is damaged, of another log, or gone costs a longer restart and nothing else. It is
 * set aside under another name (*.bad, the last one is kept), counted, and the partition begins anew
 * from the catalogue and the log, also when the damage is met while it serves.
 */
#include "ingestor/ing_priv.h"

#define ING_SNAP_MAGIC "KOASNAP\n"
enum { ING_SNAP_VERSION = 4, ING_SNAP_HEADER = 64, ING_SNAP_BLOCK_HEAD = 12 };
enum { ING_SNAP_BLOCK_MAX = 160 << 20 };               /* orphans are bounded by half of that */
enum { ING_SNAP_SLICE_BYTES = 1 << 20, ING_SNAP_SLICE_SERIES = 2048 };
enum ing_snap_kind { ING_SNAP_END, ING_SNAP_STATE, ING_SNAP_FILE, ING_SNAP_TENANT, ING_SNAP_EXTRAS,
                     ING_SNAP_ORPHANS, ING_SNAP_SERIES, ING_SNAP_REFS, ING_SNAP_KINDS };
enum { ING_SNAP_NAME = 1, ING_SNAP_PAIR, ING_SNAP_ONE };       /* items of SERIES */
enum { ING_SNAP_META = 1, ING_SNAP_EXEMPLAR };                 /* items of EXTRAS */
enum { ING_SNAP_HAS_TAIL = 1, ING_SNAP_HAS_LATE = 2, ING_SNAP_TAIL_START = 4 };

struct ing_snap_header {
    uint32_t version, partition;                       /* version: as read */
    uint64_t incarnation, serial, seq;
    int64_t  time_ms;
};
void ing_snap_header_put(const struct ing_snap_header *h, uint8_t out[ING_SNAP_HEADER]);
enum kl_code ing_snap_header_get(const uint8_t in[ING_SNAP_HEADER], struct ing_snap_header *h,
                                 struct kl_err *err);
uint32_t ing_snap_block_crc(uint64_t serial, uint64_t number, uint32_t kind, struct kl_span payload);

struct ing_snap_end { uint64_t seq, hash, chunks_size, series, chunks, log_from, log_hash; };

/* ---- snap_put.c: on the loop, into a buffer of whole blocks without checksums ---- */
struct ing_spilling { struct ing_head *head; uint32_t series; struct ing_chunk *chunk; uint32_t at; };
struct ing_put {
    struct ing_partition *p;
    struct kl_buf out;
    uint32_t tenants, tenant, series;                  /* as of the start; where the next slice begins */
    bool     refs_due, done;
    uint32_t *pair_numbers, pair_room, pair_count;     /* of the tenant: by pair; 0: not written yet */
    uint32_t *name_numbers, name_room, name_count;
    uint32_t *series_numbers, series_room, series_count;       /* by id */
    uint32_t file;                                     /* slot of the file that chunks go to; 0: none do */
    uint64_t chunks_at;
    struct ing_spilling *spilled; uint32_t spilled_count, spilled_room, spilled_before;
    struct ing_snap_end end;
};
void ing_put_begin(struct ing_put *w, struct ing_partition *p, const struct ing_snap_header *h,
                   uint32_t file, uint64_t file_serial);
void ing_put_slice(struct ing_put *w);                 /* the next one into `out`; `done` after the last */
void ing_put_free(struct ing_put *w);

/* ---- snap_get.c: on a worker, into an empty partition; believes nothing ---- */
struct ing_get {
    struct ing_partition *p;
    struct ing_snap_header header;
    uint64_t size_bytes;                               /* of the whole file */
    struct ing_head *head;
    struct ing_refs *refs;                             /* the last */
    struct ing_tenant *tenant;
    struct numbers { struct ing_head *head; uint32_t *pairs, *names, *series;
                     uint32_t pair_count, name_count, series_count, pair_room, name_room, series_room;
    } *of; uint32_t of_count, of_room, current;        /* file numbers, a tenant */
    uint64_t file_size[ING_FILES_MAX + 1];             /* 0: none, but for the one below */
    uint32_t own_file; uint64_t own_serial;
    uint64_t series, chunks, own_end;
    bool     state_seen, end_seen;
    struct ing_snap_end end;
    struct kl_buf text;
};
enum kl_code ing_get_block(struct ing_get *g, uint32_t kind, struct kl_span payload, struct kl_err *err);
void ing_get_free(struct ing_get *g);

/* ---- snap_load.c: on a worker ---- */
/* The folder of this partition's snapshot; leave it. */
enum kl_code ing_snap_folder(struct ing_partition *p, struct kl_env_dir **dir, struct kl_err *err);
void ing_snap_chunks_name(uint64_t serial, char *name, size_t size);
/* Fills the empty partition from its snapshot where there is one that fits `p->loaded`. KL_OK also
 * without: p->restored says. A failure: tried again. */
enum kl_code ing_snap_load(struct ing_partition *p, struct kl_err *err);
/* What a load put into a partition, taken out again. */
void ing_snap_discard(struct ing_partition *p);
/* Removes files of chunks that are not named by `serials`. */
void ing_snap_tidy(struct kl_env_dir *dir, const uint64_t *serials, uint32_t count);

#endif
