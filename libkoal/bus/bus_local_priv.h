#ifndef KL_BUS_LOCAL_PRIV_H
#define KL_BUS_LOCAL_PRIV_H
/*
 * The insides of the local bus. Four parts, each with a loop of its own and nothing shared but
 * what says so:
 *
 *   writer   gives records their sequences, writes groups of them, syncs        bus_local_write.c
 *   reader   knows where each record lies, feeds readers, purges                bus_local_read.c
 *   kv       the table of keys and its watchers                                 bus_local_kv.c
 *   asks     requests on their way to a service and their answers               bus_local_ask.c
 *
 * Only the writer speaks to another part: it hands each durable group to the reader. Closing sets
 * `closed`, waits out the calls that had not seen it (kl_busl_enter), then frees the loops in that
 * order, so nothing is ever posted to a loop that has ended. What callers' loops may still hold
 * after that (deliveries, questions, changes) is reference-counted and needs no loop of ours.
 */
#include <stdatomic.h>

#include "libkoal/bus/bus_fit_priv.h"

enum {
    KL_BUSL_GROUP_BYTES_MAX = 8 << 20,                 /* of one commit, but for a first record */
    KL_BUSL_TAIL_BYTES_MAX = 16 << 20,                 /* of recent groups kept for readers */
    KL_BUSL_READ_BYTES = 1 << 20,                      /* of one delivery, but for a first record */
    KL_BUSL_READ_RECORDS = 256,
    KL_BUSL_IDS_MAX = 1 << 20,                         /* remembered ids, of each two minutes */
    KL_BUSL_ID_WINDOW_MS = 120 * 1000
};
#define KL_BUSL_SEGMENT_BYTES_MIN (64u << 10)
#define KL_BUSL_SEGMENT_BYTES_MAX (1u << 30)           /* offsets are kept as 32 bits */

/* ---- the bytes of a segment: bus_local_segment.c; README.md draws them ---- */

enum { KL_BUSL_SEGMENT_HEAD = 64, KL_BUSL_GROUP_HEAD = 32, KL_BUSL_ENTRY_HEAD = 40 };
enum { KL_BUSL_ENTRY_MAX = KL_BUSL_ENTRY_HEAD + KL_BUS_ID_MAX + KL_BUS_MESSAGE_MAX };
enum { KL_BUSL_NAME_MAX = 31 };

struct kl_busl_segment_head {
    uint32_t partitions;
    uint64_t number, incarnation;
    uint64_t salt;                                     /* in every checksum of this segment */
    uint64_t previous_end;                             /* of segment number-1, this much counts */
    int64_t  created_ms;
};
struct kl_busl_group_head {
    uint64_t offset;                                   /* its own, in its segment */
    uint64_t synced;                                   /* bytes of the segment known durable */
    uint32_t size, count;                              /* of the entries that follow */
};
struct kl_busl_entry_head {
    uint32_t size, partition, bytes_crc;
    uint64_t seq;
    int64_t  time_ms;
    struct kl_span id;
};

void kl_busl_segment_name(char name[KL_BUSL_NAME_MAX + 1], uint64_t number);
bool kl_busl_segment_number(const char *name, uint64_t *number);      /* false: not one of ours */
void kl_busl_segment_put(uint8_t out[KL_BUSL_SEGMENT_HEAD], const struct kl_busl_segment_head *h);
enum kl_code kl_busl_segment_get(const uint8_t in[KL_BUSL_SEGMENT_HEAD],
                                 struct kl_busl_segment_head *h, struct kl_err *err);
void kl_busl_group_put(uint8_t out[KL_BUSL_GROUP_HEAD], uint64_t salt,
                       const struct kl_busl_group_head *h);
/* False: no group header of this segment at this offset. */
bool kl_busl_group_get(const uint8_t in[KL_BUSL_GROUP_HEAD], uint64_t salt, uint64_t offset,
                       struct kl_busl_group_head *h);
/* Writes a whole entry, filling bytes_crc and size; returns its size. */
size_t kl_busl_entry_put(uint8_t *out, uint64_t salt, struct kl_busl_entry_head *h,
                         struct kl_span bytes);
/* The head, and the id it borrows from `in`; false: not one, or it wants more than `avail`. The
 * entry's size is returned by kl_busl_entry_size. */
bool kl_busl_entry_get(const uint8_t *in, size_t avail, uint64_t salt,
                       struct kl_busl_entry_head *h);
static inline size_t kl_busl_entry_size(const struct kl_busl_entry_head *h)
{
    return KL_BUSL_ENTRY_HEAD + h->id.size + h->size;
}
/* Whether the bytes behind a head that was read are those it was written for. */
bool kl_busl_entry_whole(const uint8_t *in, const struct kl_busl_entry_head *h);

/* ---- groups: what one commit writes; shared with deliveries ---- */

struct kl_busl_entry {                                 /* one record in a group */
    uint64_t seq;
    int64_t  time_ms;
    uint32_t partition, at, size;                      /* of the whole entry in the group's bytes */
    uint32_t body_at, body_size;
};
struct kl_busl_group {
    _Atomic unsigned refs;
    struct kl_env_task task;                           /* the writer's, to the reader */
    struct kl_busl *to;
    struct kl_busl_group *next;                        /* in the reader's tail */
    uint64_t segment, offset, salt;                    /* offset: of the group's head */
    uint8_t *bytes;                                    /* head and entries, as in the file */
    size_t size, room;
    uint32_t count, entry_room;
    struct kl_busl_entry *entries;
};
struct kl_busl_group *kl_busl_group_new(size_t bytes, uint32_t entries);
void kl_busl_group_unref(struct kl_busl_group *g);     /* NULL is fine; any thread */
/* The caller has made sure of the room. */
void kl_busl_group_add(struct kl_busl_group *g, uint64_t salt, struct kl_busl_entry_head *h,
                       struct kl_span bytes);
void kl_busl_group_seal(struct kl_busl_group *g, uint64_t segment, uint64_t offset,
                        uint64_t salt, uint64_t synced);

/* ---- ids of the last two minutes: bus_local_ids.c; the writer's ---- */

struct kl_busl_ids;
/* What the table calls now: it does not jump; what is younger than the window is above 0. */
static inline int64_t kl_busl_ids_now(struct kl_env *e)
{
    return kl_env_mono_ns(e) / 1000000 + KL_BUSL_ID_WINDOW_MS + 1;
}
struct kl_busl_ids *kl_busl_ids_new(void);
void kl_busl_ids_free(struct kl_busl_ids *t);
/* The sequence that (partition, id) was given within the window, or 0. */
uint64_t kl_busl_ids_find(struct kl_busl_ids *t, uint32_t partition, struct kl_span id,
                          int64_t now_ms);
/* False when there is no more room for ids. */
bool kl_busl_ids_add(struct kl_busl_ids *t, uint32_t partition, struct kl_span id, uint64_t seq,
                     int64_t when_ms, int64_t now_ms);
void kl_busl_ids_forget(struct kl_busl_ids *t, uint32_t partition, struct kl_span id);

/* ---- where records lie: bus_local_index.c; the reader's ---- */

struct kl_busl_place { uint32_t offset, size; };       /* of a whole entry in its segment */
struct kl_busl_run { uint64_t first; uint32_t count, room; struct kl_busl_place *at; };
struct kl_busl_segment {
    uint64_t number, size, salt;
    struct kl_env_view *view;                          /* NULL until first read */
    struct kl_busl_run runs[];                         /* one a partition */
};
struct kl_busl_index {
    uint32_t partitions, count, room;
    struct kl_busl_segment **segments;                 /* ascending, without gaps */
    uint64_t *first, *last, *bytes;                    /* of each partition, what is not purged */
};
void kl_busl_index_init(struct kl_busl_index *x, uint32_t partitions);
void kl_busl_index_deinit(struct kl_busl_index *x, struct kl_env_dir *dir);
struct kl_busl_segment *kl_busl_index_segment(struct kl_busl_index *x, uint64_t number,
                                              uint64_t salt);          /* the last, or a new last */
/* KL_ECORRUPT when `seq` does not follow. */
enum kl_code kl_busl_index_add(struct kl_busl_index *x, struct kl_busl_segment *s,
                               uint32_t partition, uint64_t seq, uint64_t offset, size_t size,
                               struct kl_err *err);
/* The segment and run that hold a sequence between first and last. */
struct kl_busl_segment *kl_busl_index_find(struct kl_busl_index *x, uint32_t partition,
                                           uint64_t seq);
void kl_busl_index_purge(struct kl_busl_index *x, uint32_t partition, uint64_t up_to);
/* Whether the oldest segment holds nothing that is not purged, and is not the newest. */
bool kl_busl_index_oldest_is_done(const struct kl_busl_index *x);
void kl_busl_index_drop_oldest(struct kl_busl_index *x, struct kl_env_dir *dir);

/* ---- small files: bus_local_files.c ---- */

/* KL_ELIMIT: the disk is full, and `name` is what it was; another failure leaves that open. */
enum kl_code kl_busl_publish(struct kl_env_dir *dir, const char *tmp, const char *name,
                             struct kl_span bytes, struct kl_err *err);
enum kl_code kl_busl_meta_open(struct kl_env *env, struct kl_env_dir *dir, uint32_t partitions,
                               bool may_create, uint64_t *incarnation, struct kl_err *err);
/* marks[p]: records up to it are purged. Absent: all zero. */
enum kl_code kl_busl_marks_read(struct kl_env_dir *dir, uint32_t partitions, uint64_t *marks,
                                struct kl_err *err);
enum kl_code kl_busl_marks_write(struct kl_env_dir *dir, uint32_t partitions,
                                 const uint64_t *marks, struct kl_err *err);

/* ---- the writer ---- */

struct kl_busl_writer {
    struct kl_busl *bus;
    struct kl_env_loop *loop;
    struct kl_env_task flush, end;
    struct kl_env_timer sync_timer;
    struct kl_bus_append *first, **last;               /* waiting for the next group */
    uint64_t *next_seq;                                /* a partition */
    struct kl_busl_ids *ids;
    struct kl_env_file *file;                          /* NULL: the next group begins a segment */
    uint64_t number, size, synced, salt;               /* of the segment `file` */
    bool dead;                                         /* as `failed`, for the loop itself */
};
void kl_busl_writer_start(struct kl_busl *b);
void kl_busl_writer_append(struct kl_busl_writer *w, struct kl_bus_append *op);
/* Begins segment `number`; `groups` (rescued from the one before) are in it before it shows. */
enum kl_code kl_busl_segment_begin(struct kl_busl *b, uint64_t number, uint64_t previous_end,
                                   struct kl_busl_group *const *groups, size_t group_count,
                                   uint64_t salt, struct kl_env_file **file, uint64_t *size,
                                   struct kl_err *err);

/* ---- the reader ---- */

struct kl_busl_feed;                                   /* one open kl_bus_reader */
struct kl_busl_ring { struct kl_busl_tail *at; uint32_t room, head, count; uint64_t first; };
struct kl_busl_tail { struct kl_busl_group *group; uint32_t entry; };
struct kl_busl_reader {
    struct kl_busl *bus;
    struct kl_env_loop *loop;
    struct kl_env_task purge, end;
    void *purges, **last_purge;                        /* kl_bus_purge that wait, by their `own` */
    struct kl_busl_index index;
    struct kl_busl_feed **feeds;                       /* a partition's list */
    struct kl_busl_ring *rings;                        /* a partition's recent records */
    struct kl_busl_group *oldest, *newest;             /* the tail */
    size_t tail_bytes;
};
void kl_busl_reader_group(struct kl_busl_reader *r, struct kl_busl_group *g);      /* takes g */
void kl_busl_reader_start(struct kl_busl *b);
void kl_busl_reader_free(struct kl_busl_reader *r);
void kl_busl_read_open(struct kl_bus *bus, struct kl_bus_reader *r);
void kl_busl_read_close(struct kl_bus *bus, struct kl_bus_reader *r);
void kl_busl_info(struct kl_bus *bus, struct kl_bus_info *op);
void kl_busl_purge(struct kl_bus *bus, struct kl_bus_purge *op);
void kl_busl_on_purge_flush(struct kl_env_task *task);

/* ---- the bus ---- */

struct kl_busl_kv;
struct kl_busl_asks;
struct kl_busl {
    struct kl_bus bus;
    struct kl_env *env;
    struct kl_log *log;
    struct kl_env_dir *dir;                            /* dir/log */
    struct kl_bus_local_options options;
    uint64_t incarnation;
    _Atomic uint64_t *ends;                            /* last_seq of each partition; the writer's */
    _Atomic uint64_t log_bytes;                        /* all segments: writer adds, reader takes */
    _Atomic unsigned entered;
    atomic_bool closed;
    atomic_bool failed;                                /* `why` is written before, only once */
    struct kl_err why;
    struct kl_busl_writer writer;
    struct kl_busl_reader reader;
    struct kl_busl_kv *kv;
    struct kl_busl_asks *asks;
    struct kl_metric *appended_records, *appended_bytes, *commits, *duplicates, *refused;
    struct kl_metric unseen;
};
static inline struct kl_busl *kl_busl(struct kl_bus *b) { return (struct kl_busl *)b; }

/* Around whatever posts to a loop of the bus from outside. False: closed; post nothing. */
bool kl_busl_enter(struct kl_busl *b);
void kl_busl_leave(struct kl_busl *b);
static inline void kl_busl_post(struct kl_busl *b, struct kl_env_loop *loop,
                                struct kl_env_task *task)
{
    b->env->sched->post(loop, task);
}
enum kl_code kl_busl_closed(struct kl_err *err);       /* KL_ECANCELED and its words */
/* An operation, from whatever thread, to a loop of the bus: `run` has it there. KL_ECANCELED: closed. */
enum kl_code kl_busl_hand(struct kl_busl *b, struct kl_env_loop *loop, struct kl_env_task *task,
                          void (*run)(struct kl_env_task *task), struct kl_err *err);

/* Fills the bus from the folder: index, next sequences, ids; begins a new segment. */
enum kl_code kl_busl_recover(struct kl_busl *b, struct kl_err *err);

enum kl_code kl_busl_kv_open(struct kl_busl *b, struct kl_env_dir *dir, struct kl_err *err);
void kl_busl_kv_close(struct kl_busl_kv *kv);          /* ends its loop */
void kl_busl_kv_free(struct kl_busl_kv *kv);
void kl_busl_kv_op(struct kl_bus *bus, struct kl_bus_kv *op);
void kl_busl_watch(struct kl_bus *bus, struct kl_bus_watch *w);
void kl_busl_unwatch(struct kl_bus *bus, struct kl_bus_watch *w);

void kl_busl_asks_open(struct kl_busl *b);
void kl_busl_asks_close(struct kl_busl_asks *a);       /* ends its loop */
void kl_busl_asks_free(struct kl_busl_asks *a);
void kl_busl_ask(struct kl_bus *bus, struct kl_bus_ask *op);
void kl_busl_serve(struct kl_bus *bus, struct kl_bus_service *s);
void kl_busl_unserve(struct kl_bus *bus, struct kl_bus_service *s);
void kl_busl_answer(struct kl_bus *bus, struct kl_bus_question *q, enum kl_code code,
                    struct kl_span bytes);
void kl_busl_answer_take(struct kl_bus *bus, struct kl_bus_question *q, struct kl_buf *bytes_take);
#endif
