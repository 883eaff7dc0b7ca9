#ifndef ING_PRIV_H
#define ING_PRIV_H
/*
 * An ingestor's partitions. A partition is a state machine on one loop:
 *
 *   AWAY -> LOADING (pointer, manifest, log's bounds, leftovers on disk) -> REPLAYING -> LIVE
 *                 ^------------- a try failed: again after a while          |
 *   BROKEN <------ the log cannot be read on as it should: alarm, words, not ready
 *
 * cut read from the log -> job: WRITE filesets and upload (work) -> PUT manifest (work) -> POINT the
 * KV to it (compare-and-set) -> LET GO of the chunks -> purge the log. Jobs of a partition run one
 * after another, in the order of their cuts; a step that fails is tried again for ever, ever slower.
 */
#include <stdatomic.h>

#include "ingestor/head_priv.h"
#include "ingestor/member.h"
#include "ingestor/ingestor.h"
#include "ingestor/tidy_priv.h"
#include "libblock/manifest.h"
#include "libkoal/base/hash.h"
#include "libtsproto/digest.h"
#include "libtsproto/disk.h"
#include "libtsproto/layout.h"
#include "libtsproto/logmark.h"
#include "libtsproto/record.h"
#include "libtsproto/select.h"

enum { ING_ORPHAN_BYTES_MAX = 64 << 20, ING_SPANS_MAX = 4096, ING_JOBS_MAX = 64 };
enum { ING_BATCH = 32, ING_BATCH_RUN = 16 };           /* short runs, looked up together */
enum { ING_ASKS_MAX = 1024 };                          /* questions waiting or being rendered */
enum { ING_TICK_MS = 200, ING_RETRY_FIRST_MS = 500, ING_RETRY_MAX_MS = 60000 };
enum { ING_PURGES_MAX = 64, ING_OLD_MS = BLK_GONE_MS };
enum { ING_FORMAT = 1, ING_EPOCH_STATIC = 1 };         /* without leases: one epoch for ever */
/* Who has not compared what is applied with the log's end for so long asks before it answers, and then
 * does not count as ready. */
enum { ING_STALE_MS = 3000, ING_UNREADY_MS = 5000 };
enum { ING_BEHIND_READY = 64 };                        /* records behind the log that count as caught up */

/* ---- refs.c: what a writer's refs stand for ---- */
struct ing_orphan { uint64_t ref, first_seq; struct kl_buf samples; };
enum { ING_REF_PAGE = 256, ING_REF_GRAIN = 16 };
struct ing_ref_page {                                  /* of the refs number * ING_REF_PAGE and on */
    uint64_t number;
    uint32_t live;
    uint32_t series[ING_REF_PAGE];                     /* ING_NONE: none */
    uint32_t defined[ING_REF_PAGE];                    /* (seq - base) / ING_REF_GRAIN, rounded down */
    uint8_t  used[ING_REF_PAGE];                       /* the cut number of the last use, modulo 256 */
};
struct ing_refs {
    struct ing_refs *next;                             /* of the same head */
    struct tsp_incarnation who;
    struct ing_head *head;
    struct ing_ref_page **pages; uint32_t page_count, page_room;
    uint32_t *slots, mask, count;                      /* by page number: its place + 1; refs in all */
    uint64_t base_seq;
    struct ing_orphan *orphans; uint32_t orphan_count, orphan_room;
};
enum { ING_ORPHAN_BIT = 0x80000000u };

struct ing_tenant { struct ing_head *head; struct ing_refs *refs; };

/* ---- the first record that holds samples of a window which no cut has taken yet ---- */
struct ing_first { int64_t window_ms_start; uint64_t seq; };

/* A manifest that is not the newest any more, and when it shall be removed. */
struct ing_old { uint64_t revision; int64_t at_ms; };

struct ing_partition;
struct ing_shard;

/* ---- flush.c: one cut's way into the catalogue ---- */
struct ing_sealed { struct ing_series *series; uint32_t first, count; };       /* into chunks */
struct ing_erased { struct ing_head *head; struct ing_series *series; struct ing_chunk *chunk; };
struct ing_part {                                      /* what a cut took of one tenant, one fileset */
    struct ing_head   *head;
    struct ing_view    view;
    struct ing_sealed *series; uint32_t series_count, series_room;
    struct ing_chunk **chunks; uint32_t chunk_count, chunk_room;
    struct ing_meta   *metas;  uint32_t meta_count;
    struct ing_exemplar *exemplars; uint32_t exemplar_count;
    struct kl_arena    texts;                          /* of metas and exemplars */
    struct blk_info    info;                           /* filled when written */
    bool               written;
};
enum ing_step { ING_WRITE, ING_PUT, ING_POINT, ING_CONFLICT, ING_LET_GO, ING_CLEAN };
struct ing_job {
    struct ing_job *next;
    struct ing_partition *p;
    uint64_t seq, first_seq;                           /* of the cut; of the first sample in it */
    uint32_t number;                                   /* what its chunks are marked with */
    int64_t  end_ms;
    struct ing_part *parts; uint32_t part_count;
    struct ing_erased *erased; uint32_t erased_count;  /* its chunks that were deleted since */
    struct blk_deletion **deletions; uint32_t deletion_count;  /* or deletions to commit; then no parts */
    enum ing_step step;
    unsigned failures;
    uint64_t generation;                               /* for a fileset whose name is taken */
    uint64_t upon;                                     /* p->pointer_revision, of what `manifest` is built upon or to be read */
    uint64_t adopt;                                    /* a new incarnation to commit; 0: a cut */
    struct ing_tidy *tidy;                             /* or housekeeping to commit; then no parts */
    char (*evict)[BLK_PATH_MAX + 1]; uint32_t evict_count;     /* or local copies that go (local.c) */
    bool committed;
    bool covered;                                      /* by the catalogue before it was read */
    struct blk_manifest manifest;                      /* the next one */
    struct kl_buf   bytes;                             /* it, or the pointer, encoded */
    struct kl_env_task work, back;
    struct kl_bus_kv   kv;
    enum kl_code    code;
    struct kl_err   err;
    bool out;                                          /* a worker or the bus has it */
    struct tsp_digest_cut digest;                      /* of a cut, for other members to compare */
    bool digest_due;                                   /* before anything else is done */
};

/* ---- digest.c: this member compared with others ---- */
struct ing_digest {                                    /* of a partition */
    uint64_t log_from, log_hash;                       /* of the records from log_from on; 0: not known */
    uint64_t check_seq;                                /* there a snapshot knew it, too; 0: no more */
    struct blk_manifest cuts;                          /* only its cuts: those obeyed */
    struct tsp_digest_cut cut;                         /* that is being read */
    int64_t  doubt_ms;                                 /* no sample after it is doubtful; INT64_MIN: none is */
    int64_t  repeats_until_ms;                         /* by the log: the bus may not know a repeat */
    int64_t  taken_ms;                                 /* so a sample before it may be one, in this record */
    bool     began;                                    /* a record was read */
    bool     due, out, is_told;                        /* to be told; under way; there is a key */
    struct tsp_digest told;
    struct kl_bus_kv  kv;
    struct kl_buf     bytes;
    unsigned failures;
    int64_t  again_ns;
};
enum { ING_SAID_MAX = 64 };
struct ing_said { uint32_t partition; uint64_t seq, who; int verdict; };
struct ing_compared {                                  /* of an ingestor; on the first shard's loop */
    struct kl_bus_watch watch;
    struct tsp_digests *all;
    uint64_t *same;                                    /* by partition: the last cut that two have alike */
    bool     *differs;                                 /* by partition: from this one */
    uint32_t  mine;
    struct ing_said said[ING_SAID_MAX];
    uint32_t  said_at;
};

/* ---- repair.c: a member's state of a partition, made anew ---- */
enum { ING_REPAIRS_MAX = 10 };
struct ing_repair {
    _Atomic uint64_t differs;                          /* the last cut at which the owner has other than this; 0: none */
    _Atomic uint64_t outvoted;                         /* and others have what this one has */
    _Atomic bool     wished;                           /* by an operator */
    bool     under_way;                                /* until it is live again: no peer's snapshot is asked for */
    bool     clear, out;                               /* the wish shall go from the KV; that is on its way */
    uint32_t count;                                    /* by itself; */
    int64_t  at_ns[ING_REPAIRS_MAX];                   /* and when, of the last ones */
    uint64_t said;
    int64_t  again_ns;
    struct kl_bus_kv kv;
};

/* ---- select.c ---- */
struct ing_question {                                  /* as it came; to one partition or to several */
    struct kl_bus_question *q;
    struct ing_ingestor *i;
    struct kl_arena   arena;
    struct tsp_select select;
    bool compiled;                                     /* its regexes */
    uint32_t left;                                     /* asks of it that are not settled */
    size_t   planned;                                  /* bytes of all pages, about */
    struct kl_buf  first, others;                      /* its own page; those of `also`, bundled */
    enum kl_code   code;                               /* of the first */
    struct kl_err  err;
    int64_t  begun_ns;
    uint32_t asked, begun;                             /* partitions; asks */
    struct ing_ask *asks;                              /* one each */
};
struct ing_ask {                                       /* a question to one partition */
    struct ing_ask *next;
    struct ing_partition *p;
    struct ing_question  *of;
    struct kl_bus_info info;
    uint64_t need_seq;
    int64_t  until_ns, asked_ns;
    bool     unsure;                                   /* where the log ends was not known of late */
    struct ing_plan *plan;
    struct ing_partial *partial;                       /* of PARTIAL, once it is begun: then the next four are not used */
    struct ing_ask *next_partial;                      /* of its partition */
    _Atomic bool stopped;                              /* its asker does not want it any more */
    struct kl_env_task work, back;
    struct kl_buf    page;
    enum kl_code     code;
    struct kl_err    err;
};
struct ing_found {                                     /* what matched, kept: page.c */
    char *key; size_t key_size;
    uint32_t *ids; uint32_t count;
    uint64_t gone, born;                               /* of the head, when it was made */
    int64_t  used_ns;
    struct ing_head *head;
};
enum { ING_FOUND_MAX = 16, ING_FOUND_KEEP_MS = 300000, ING_FOUND_KEEP_LARGE_MS = 30000 };

struct ing_wait {                                      /* a flush, in one partition */
    struct ing_wait  *next;
    struct ing_flush *flush;
    struct ing_partition *p;
    struct kl_env_task task;
    uint64_t seq;                                      /* 0: the cut is on its way into the log */
};

/* A cut on its way into the log. */
struct ing_append {
    struct ing_append *next;
    struct ing_partition *p;
    struct kl_bus_append  op;
    struct kl_buf  bytes;
    struct tsp_cut cut;
    struct ing_wait *wait;                             /* the flush that wants it, or NULL */
    int64_t  give_up_ns;
};

/* What the snapshot gave to a partition that is being loaded. */
struct ing_restored {
    bool     is;
    uint64_t seq, seq_end, hash_end;                   /* replay goes on after seq; see snap_priv.h */
    uint64_t log_from, log_hash;                       /* as of seq_end; from 0: not known */
    int64_t  time_ms;
};

enum ing_state { ING_AWAY, ING_LOADING, ING_REPLAYING, ING_LIVE, ING_BROKEN };

/* ---- follow.c: the catalogue as its owner, somebody else, writes it ---- */
struct ing_follow {
    struct kl_bus_kv   kv;
    struct kl_env_task work, back;
    struct blk_pointer at;
    uint64_t revision;                                 /* of the pointer's key */
    struct blk_manifest manifest;
    enum kl_code  code;
    struct kl_err err;
    bool     out;
    int64_t  again_ns;
    unsigned failures;
};

/* ---- marks.c: which record wrote last to which hour ---- */
enum { ING_MARKS = 1024 };                             /* hours; more than a month */
struct ing_mark { int64_t hour; uint64_t seq; };       /* seq 0: no place is taken */
struct ing_marks {
    uint64_t rest;                                     /* for hours without a place */
    int64_t  from_ms, to_ms;                           /* what this record has noted already */
    struct ing_mark at[ING_MARKS];
};
void ing_marks_reset(struct ing_marks *m, uint64_t seq);       /* all is as of that record */
void ing_marks_hour(struct ing_marks *m, int64_t time_ms, uint64_t seq);
void ing_marks_span(struct ing_marks *m, int64_t from_ms, int64_t to_ms, uint64_t seq);
void ing_marks_tell(const struct ing_marks *m, int64_t from_ms, int64_t to_ms, struct kl_buf *out);
static inline void ing_marks_note(struct ing_marks *m, int64_t time_ms, uint64_t seq)
{
    if (time_ms < m->from_ms || time_ms >= m->to_ms)
        ing_marks_hour(m, time_ms, seq);
}

/* ---- logmark.c: which incarnation of the log the cell accepts ---- */
struct ing_logmark {
    struct kl_bus_kv   kv;
    struct kl_buf      bytes;
    struct tsp_logmark is, next;                       /* as read or written; on its way */
    uint64_t revision;                                 /* of its key; 0: there is none */
    struct tsp_lost lost;                              /* when a reader found the log made anew */
    uint64_t doubted;                                  /* an incarnation that was seen once */
    bool     out;
    unsigned failures;
    int64_t  again_ns;
    void   (*loaded)(struct ing_partition *p, enum kl_code code, const struct kl_err *err);
};

/* ---- skip.c: a record that cannot be read, and those that are passed over ---- */
struct ing_log_ask {                                   /* an operator's, on its way to a loop and back */
    uint64_t seq;                                      /* in: to be skipped; 0: only shown */
    struct kl_env_loop *loop; void (*back)(struct kl_env_task *task);
    struct kl_buf json;                                /* shown: appended to */
    struct kl_err err;
    struct kl_env_task task; struct ing_partition *partition;
};
void ing_log_ask(struct ing_ingestor *i, struct ing_log_ask *a, uint32_t partition);
enum { ING_BAD_HEAD = 64 };
struct ing_skips {
    struct kl_bus_kv   kv;
    struct kl_buf      bytes;
    struct tsp_logskip is, next;
    uint64_t revision;
    struct { uint64_t seq, size, hash; uint8_t head[ING_BAD_HEAD]; } bad;      /* seq 0: none */
    bool     out;
    int64_t  again_ns;
    struct ing_log_ask *ask;                           /* who wants one skipped */
    void   (*loaded)(struct ing_partition *p, enum kl_code code, const struct kl_err *err);
};

struct ing_partition {
    struct ing_ingestor *i;
    struct ing_shard    *shard;
    uint32_t number;
    _Atomic bool wanted;                               /* the placement table says so */
    _Atomic int  state;                                /* enum ing_state; written on the loop */
    bool     serving, reading, loading, kv_out;
    struct kl_env_task   assign;
    struct kl_bus_service service, own_service;        /* as the owner; as this member */
    bool     owning;                                   /* the first of them is served */
    struct kl_bus_reader  reader;

    /* loading */
    struct kl_bus_kv   kv;
    struct kl_bus_info info;
    struct kl_env_task load_work, load_back;
    struct kl_bus_service peer_service;                /* peer.h: while it is the owner */
    unsigned peers_served;
    enum kl_code       load_code;
    struct kl_err      load_err;
    unsigned           load_failures;
    int64_t            load_again_ns;
    struct blk_pointer pointer;
    uint64_t           pointer_revision;               /* of the KV's key; 0: there is none */
    struct blk_manifest loaded;

    struct blk_manifest manifest;                      /* the catalogue as committed */
    uint64_t incarnation, applied, replay_end, purged;
    struct kl_err words;                               /* why it is BROKEN, or not LIVE */
    struct kl_err cut_err;                             /* a cut that cannot be obeyed */
    bool reload;                                       /* load anew once the jobs are done */
    bool empty;                                        /* nothing of it is in memory or under way */
    int64_t local_until_ms, local_gone_ms, local_again_ns;     /* local.c: how far it has looked */
    struct kl_env_dir *filesets;                       /* its own handle; a worker's while one is out */

    /* the head */
    struct ing_files files;
    struct blk_deletion **deleting; uint32_t deleting_count;   /* of this record */
    struct ing_tenant *tenants; uint32_t tenant_count, tenant_room;
    uint32_t *tenant_slots, tenant_mask;
    uint32_t last_tenant;
    struct ing_refs *last_refs;
    struct tsp_record_reader *reads;
    struct tsp_record_head    record;
    uint64_t record_seq;
    int64_t  covered_ms;                               /* samples of this record before it are catalogued */
    struct kl_buf scratch;
    struct { struct ing_refs *refs; uint64_t ref; uint32_t from, count; } batch[ING_BATCH];
    int64_t  batch_times[ING_BATCH * ING_BATCH_RUN];
    double   batch_values[ING_BATCH * ING_BATCH_RUN];
    uint32_t batch_count, batch_samples;               /* short runs of this record */
    struct ing_first *firsts; uint32_t first_count, first_room;
    int64_t  first_lo, first_hi;                       /* the window last looked at */
    uint64_t first_any;                                /* of windows too many to name; 0: none */
    uint8_t  cut_number;
    int64_t  record_time_ms, aged_ms;                  /* by the log's clock; when definitions aged last */
    uint64_t epoch_seen;
    uint64_t cut_seq; int64_t cut_end_ms;              /* the last window cut that was read */
    uint64_t orphan_bytes, late_writes, sample_count;
    struct ing_marks marks; uint64_t marks_seq;        /* of this record, also while orphans join */
    int64_t  memory_told;
    int64_t  flush_again_ns;                           /* no early flush before */
    int64_t  cut_again_ns;                             /* no cut of a window: the last was passed over */

    _Atomic bool going_over;                           /* the log was made anew: until that one is read */
    struct ing_logmark logmark;
    struct ing_skips  skips;
    struct ing_follow follow;
    struct ing_digest digest;
    struct ing_repair repair;
    uint64_t fenced;                                   /* an epoch that was seen to write the catalogue */
    struct ing_job *jobs, *jobs_last; uint32_t job_count, job_number;
    int64_t  job_again_ns;
    struct kl_bus_purge purge; bool purging;
    struct { uint64_t seq; int64_t at_ms; } purges[ING_PURGES_MAX]; uint32_t purge_count;
    struct ing_old *olds; uint32_t old_count, old_room;        /* manifests to be removed */
    struct ing_tidy *tidy;                             /* housekeeping under way, before its commit */
    uint64_t tidy_number;                              /* of the last: names what it writes */
    unsigned tidy_failures;
    int64_t  orphans_again_ns;                         /* none looked for before */
    int64_t  tidy_again_ns;                            /* none before */
    uint64_t tidy_seen; int64_t tidy_seen_until_ns;    /* this revision has nothing to be done, until */
    uint64_t *thinned; uint32_t thinned_count;         /* tidy_obey.c: filesets that rules leave as they are */
    bool     checked;                                  /* what is in quarantine was looked at */

    struct ing_census *census;                         /* NULL: nothing was ever large */
    int64_t  census_again_ns;

    struct ing_append *appends;
    struct ing_wait   *waits;
    struct ing_wait   *cleans;                         /* that want deletions rewritten */
    uint64_t           clean_number;                   /* up to this one now, not in time */
    uint64_t           counted_revision, counted;      /* of the manifest: deletions not yet obeyed */
    struct ing_ask    *asks;                           /* that wait for the log to be applied */
    struct ing_ask    *held;                           /* that wait for chunks to be let go */
    struct ing_ask    *partials;                       /* those for aggregates, wherever they are */
    uint32_t ask_count, rendering;
    struct ing_found   found[ING_FOUND_MAX];
    uint64_t appended;                                 /* of our own records: their counter */

    /* for ing_ready and metrics, written on the loop */
    /* the snapshot */
    struct ing_pass *pass;                             /* under way */
    struct ing_restored restored;
    struct kl_env_dir *spilled;                        /* views of spilled chunks are opened in it */
    uint64_t snap_serial;                              /* of the last pass, done or not */
    uint64_t snap_bytes;                               /* of the last head */
    uint64_t snap_samples;                             /* sample_count when the last one began */
    int64_t  snap_again_ns;
    unsigned snap_failures;
    int64_t  store_again_ns;                           /* none of it is put into the store before; 0: not known yet */
    uint64_t stored_samples;                           /* sample_count of the last one there; UINT64_MAX: unknown */
    unsigned store_failures;
    bool     store_fetched;                            /* one came from there since this one came */
    uint64_t applied_hash, check_seq, check_hash;      /* the record that the snapshot ended with */
    uint64_t again_end;                                /* records up to it are in the snapshot, perhaps */
    bool     damaged;                                  /* the snapshot is to be set aside: begin anew */
    uint64_t bad_serial;                               /* of the file that is damaged; 0: the head */

    /* log.c: how far the log goes, as told, and since when all of it is applied. */
    uint64_t end_seq; int64_t end_ns, info_ns;
    _Atomic int64_t m_fresh_ns;
    _Atomic uint64_t m_behind, m_epoch_seen;
    _Atomic uint64_t catalogue_seen;                   /* revision of the pointer's key, by the watch */
    _Atomic bool     pointer_gone;                     /* its pointer was deleted from the KV */
    _Atomic uint64_t m_series, m_samples, m_late, m_equal, m_applied, m_lag, m_orphans, m_jobs, m_spilled,
                     m_snap_bytes, m_deletions;
    _Atomic int64_t  m_memory[ING_MEM_KINDS];
};

struct ing_shard {
    struct ing_ingestor *i;
    struct kl_env_loop  *loop;
    struct kl_env_timer  tick;
    struct kl_env_task   start, stop, linger;
    bool stopping;
};

struct ing_counters {
    struct kl_metric *repeats, *anew, *skipped, *records, *samples, *hists, *cuts, *flushes, *flush_failures, *unknown_refs,
                     *alarms, *selects, *select_pages, *select_bytes, *select_refused, *partials, *partials_refused, *partials_stopped, *filesets,
                     *extras_dropped, *compactions, *compacted, *compacted_samples, *expired,
                     *quarantined, *swept, *evicted, *orphan_filesets, *tidy_failures, *leftovers, *disk_used, *disk_full, *replayed,
                     *snapshots, *snapshot_failures, *set_aside, *restored, *from_peer, *from_store, *stored, *stored_bytes, *store_failures, *deletions, *rewritten,
                     *compared, *differences, *repairs;
    struct kl_metric *series, *memory[ING_MEM_KINDS], *applied_lag, *orphans, *late, *equal,
                     *partitions, *broken, *jobs, *spilled, *snapshot_bytes, *deletions_pending, *differ;
};

/* ---- disk.c: how full it is ---- */
struct ing_disk {
    struct ing_ingestor *i;
    bool     out, full, told, told_full, telling_full;
    unsigned failures;
    int64_t  again_ns;
    uint64_t free_bytes, total_bytes;
    char     words[TSP_DISK_WORDS_MAX + 1];
    struct kl_env_task work, back;
    struct kl_bus_kv   kv;
    enum kl_code  code;
    struct kl_err err;
};

struct ing_ingestor {
    struct kl_env *env;
    struct kl_bus *bus;
    struct kl_env_dir *dir;
    struct kl_store *store;
    struct ing_options o;
    char name[64];
    struct tsp_incarnation who;
    struct ing_shard *shards; unsigned shard_count;
    struct ing_partition *partitions;
    struct kl_bus_watch watch, catalogue_watch;
    struct ing_compared compared;
    struct kl_bus_watch repair_watch;
    _Atomic uint32_t repairing;                        /* partitions that are made anew */
    struct ing_member *_Atomic member;                 /* NULL: partitions are assigned, there are no leases */
    struct tsp_layout *layout;                         /* the first shard's, as the watch */
    bool watching, said_ready;
    _Atomic bool placed;                               /* a placement table was seen */
    _Atomic uint64_t placement_revision;
    _Atomic int64_t  memory;                           /* of all heads */
    _Atomic int64_t  log_ahead_ms;                     /* the log's time, of our monotonic clock; INT64_MIN: unknown */
    struct ing_disk  disk;
    _Atomic bool     compacting;                       /* some partition's housekeeping merges */
    _Atomic uint32_t passing;                          /* partitions whose snapshot is being made */
    _Atomic uint32_t storing;                          /* or put into the store */
    _Atomic uint32_t out;                              /* operations and work under way */
    _Atomic uint32_t partials;                         /* aggregates being made */
    _Atomic bool stopping;
    struct kl_env_listener listener;                   /* on the first shard's loop */
    struct ing_counters m;
    struct kl_metrics *own_metrics;                    /* where none were handed in */
};

static inline void ing_out(struct ing_ingestor *i) { atomic_fetch_add(&i->out, 1); }
static inline void ing_in(struct ing_ingestor *i) { atomic_fetch_sub(&i->out, 1); }
static inline bool ing_stopping(const struct ing_partition *p)
{
    return atomic_load_explicit(&p->i->stopping, memory_order_relaxed);
}
/* The epoch under which this ingestor owns the partition now; 0: it does not, and neither cuts nor
 * writes the catalogue. */
uint64_t ing_epoch(const struct ing_partition *p);
/* cluster.c: the time, for what cannot be undone. In a cell a clock that is ahead of the log's by more than
 * five minutes counts as the log's, and 0 as long as no record has told that; alone it is the machine's own. */
int64_t ing_sure_now_ms(struct ing_ingestor *i);
void    ing_log_time(struct ing_ingestor *i, int64_t time_ms);                /* any thread */
int64_t ing_backoff_ms(struct ing_ingestor *i, unsigned failures);

/* census.c: which metrics outgrow the partition */
void ing_census_tick(struct ing_partition *p, int64_t now_ns);
void ing_census_free(struct ing_partition *p);

/* partition.c */
void ing_partition_init(struct ing_partition *p, struct ing_ingestor *i, uint32_t number,
                        struct ing_shard *shard);
void ing_partition_deinit(struct ing_partition *p);
void ing_partition_assign(struct kl_env_task *task);
void ing_partition_tick(struct ing_partition *p);
void ing_partition_stop(struct ing_partition *p);
void ing_partition_break(struct ing_partition *p, const struct kl_err *err);
void ing_partition_anew(struct ing_partition *p, const char *words);
void ing_partition_empty(struct ing_partition *p);     /* forgets all that the head holds */
/* catalogue.c: loading */
void ing_load(struct ing_partition *p);
void ing_loaded(struct ing_partition *p);              /* partition.c: begins to read */
void ing_load_failed(struct ing_partition *p, const struct kl_err *err);
/* local.c */
bool ing_local_keeps(const struct ing_partition *p, int64_t max_ms);   /* also here, by its youngest sample */
void ing_local_loaded(struct ing_partition *p);
void ing_local_tick(struct ing_partition *p);
enum kl_code ing_local_evict(struct ing_job *j, struct kl_err *err);
void ing_load_leave(struct ing_partition *p);          /* leaves the folder of filesets */
enum kl_code ing_folder(struct ing_partition *p, struct kl_err *err);          /* on a worker */
/* log.c: is what is applied all that the log has? */
void ing_log_end(struct kl_bus_reader *r, uint64_t last_seq, int64_t asked_ns);
void ing_log_told(struct ing_partition *p, uint64_t last_seq, int64_t asked_ns);       /* so far it goes */
void ing_log_fresh(struct ing_partition *p, int64_t asked_ns);         /* it is, as of then */
static inline void ing_log_applied(struct ing_partition *p)            /* one record more */
{
    if (p->applied == p->end_seq)
        ing_log_fresh(p, p->end_ns);
}
void ing_log_pass(struct ing_partition *p, const struct kl_bus_record *rec);   /* nothing to apply */
/* For how long that has not been known; 0 where the bus knows at once. Any thread. */
int64_t ing_log_stale_ms(const struct ing_partition *p);
/* logmark.c */
void ing_logmark_load(struct ing_partition *p, void (*done)(struct ing_partition *p, enum kl_code code,
                                                         const struct kl_err *err));
bool ing_logmark_is(struct ing_partition *p, uint64_t incarnation);       /* false: not yet, it is under way */
uint64_t ing_logmark_accepted(const struct ing_partition *p, const struct blk_manifest *catalogue);
/* At the end of loading: is the log another one than is accepted, for the first time? */
bool ing_logmark_doubts(struct ing_partition *p, struct kl_err *err);
/* skip.c */
void ing_skips_load(struct ing_partition *p, void (*done)(struct ing_partition *p, enum kl_code code,
                                                          const struct kl_err *err));
bool ing_skips_has(const struct ing_partition *p, uint64_t seq);
void ing_skips_bad(struct ing_partition *p, const struct kl_bus_record *rec);
void ing_skips_tick(struct ing_partition *p);
/* apply.c */
enum kl_code ing_apply(struct ing_partition *p, const struct kl_bus_record *rec, struct kl_err *err);
struct ing_tenant *ing_tenant(struct ing_partition *p, struct kl_span tenant, bool make);
void ing_first_forget(struct ing_partition *p, int64_t end_ms);
bool ing_kept_check(struct kl_span samples);           /* bytes from a file: samples of an orphan? */
void ing_orphans_erase(struct ing_partition *p, struct ing_refs *r, const struct blk_deletion *d);
/* deletion.c */
void ing_deletion_read(struct ing_partition *p, struct kl_span tenant, const struct tsp_deletion *t);
void ing_deletions_queue(struct ing_partition *p);     /* the record is applied */
void ing_deletions_drop(struct blk_deletion **list, uint32_t count);
void ing_deletions_build(const struct ing_job *j, struct blk_manifest *m);
void ing_deletions_count(struct ing_partition *p);     /* for the metrics */
void ing_erased_free(struct ing_job *j);               /* no worker, no page has them any more */
void ing_clean_begin(struct ing_wait *w);
void ing_clean_tick(struct ing_partition *p);
/* As kept among an orphan's samples; get: NULL, it is none. */
void                 ing_deletion_put(const struct blk_deletion *d, struct kl_buf *out);
struct blk_deletion *ing_deletion_get(struct kl_cur *c);
/* refs.c */
struct ing_refs *ing_refs_new(struct tsp_incarnation who, struct ing_head *head, uint64_t seq);
void     ing_refs_free(struct ing_refs *r);
uint32_t ing_refs_find(struct ing_refs *r, uint64_t ref, uint8_t cut);         /* or ING_NONE */
void     ing_refs_prefetch(const struct ing_refs *r, uint64_t ref);
void     ing_refs_set(struct ing_refs *r, uint64_t ref, uint32_t series, uint64_t seq, uint8_t cut);
/* Drops what was neither used nor repeated since two cuts. */
void     ing_refs_sweep(struct ing_refs *r, uint8_t cut);
uint64_t ing_refs_oldest(const struct ing_refs *r);    /* record still needed; UINT64_MAX: none */
struct ing_orphan *ing_refs_orphan(struct ing_refs *r, uint64_t ref, uint64_t seq, uint8_t cut);
/* cut.c */
void ing_cut_read(struct ing_partition *p, const struct tsp_cut *cut, uint64_t seq);
void ing_cut_append(struct ing_partition *p, const struct tsp_cut *cut, struct ing_wait *wait);
void ing_cut_tick(struct ing_partition *p);
void ing_flush_begin(struct kl_env_task *task);
void ing_flush_check(struct ing_partition *p, const struct kl_err *failed);
void ing_wait_end(struct ing_wait *w, enum kl_code code, const struct kl_err *err);
/* flush.c */
void ing_job_queue(struct ing_job *j);                 /* behind those that its partition has; taken */
void ing_job_start(struct ing_partition *p);           /* the first job's next step, if it is time */
void ing_job_let_go(struct ing_partition *p);
void ing_job_free(struct ing_job *j);
void ing_jobs_tick(struct ing_partition *p);
void ing_olds_add(struct ing_partition *p, uint64_t revision, int64_t at_ms);
uint64_t ing_replay_from(struct ing_partition *p, const struct ing_job *without);
/* snap_pass.c, snap_load.c (snap_priv.h) */
void ing_pass_tick(struct ing_partition *p);
void ing_pass_end(struct ing_partition *p);            /* what it may name is about to go */
bool ing_pass_reads(const struct ing_partition *p);    /* a worker has chunks in its hands */
bool ing_pass_swaps(const struct ing_partition *p);    /* it waits for pages under way to end */
void ing_pass_swap(struct ing_partition *p);
void ing_pass_free(struct ing_partition *p);           /* no worker is out any more */
/* Was a spilled chunk, or what the log says of the snapshot, found wrong? Then the partition begins
 * anew: true. */
bool ing_snap_damaged(struct ing_partition *p);
void ing_snap_doubt(struct ing_partition *p, const struct kl_err *err);
enum kl_code ing_snap_load(struct ing_partition *p, struct kl_err *err);
void ing_snap_discard(struct ing_partition *p);
void ing_files_close(struct ing_partition *p);         /* all, when no chunk is left */
void ing_tenants_free(struct ing_partition *p);
/* write.c */
enum kl_code ing_part_write(struct ing_job *j, struct ing_part *part, struct kl_err *err);
/* Adds what it holds: every sample that counts, once, and the start times of these. */
enum kl_code ing_part_digest(const struct ing_part *part, struct tsp_digest_sum of[TSP_DIGEST_KINDS],
                             struct kl_err *err);
/* digest.c */
void ing_digest_reset(struct ing_partition *p);        /* nothing was read */
void ing_digest_loaded(struct ing_partition *p);       /* reading begins behind `applied` */
void ing_digest_catalogued(struct ing_partition *p);   /* the catalogue is another */
void ing_digest_begin_record(struct ing_partition *p);
void ing_digest_record(struct ing_partition *p, uint64_t seq);         /* it is applied */
/* The log up to the record just applied is not the one that the snapshot was made from: it was doubted. */
bool ing_digest_is_other(struct ing_partition *p);
void ing_digest_doubt(struct ing_partition *p, int64_t time_ms);       /* of a sample */
void ing_digest_cut_read(struct ing_partition *p, uint64_t seq);       /* whether it is obeyed or not */
/* It is to be sealed: all that is told of it but the sums over samples. And what a cut that took something is for later. */
void ing_digest_cut(struct ing_partition *p, int64_t end_ms, struct tsp_digest_cut *cut);
void ing_digest_obeyed(struct ing_partition *p, uint64_t seq, int64_t end_ms);
void ing_digest_job(struct ing_job *j);                /* makes the sum, tells it, goes on with the job */
void ing_digest_tell(struct ing_partition *p, const struct tsp_digest_cut *cut);
void ing_digest_tick(struct ing_partition *p);
void ing_digest_watch(struct ing_ingestor *i);         /* on the first shard's loop */
void ing_digest_unwatch(struct ing_ingestor *i);
void ing_digest_free(struct ing_ingestor *i);
/* repair.c */
void ing_repair_watch(struct ing_ingestor *i);         /* on the first shard's loop, as the next two */
void ing_repair_unwatch(struct ing_ingestor *i);
void ing_repair_look(struct ing_ingestor *i);
void ing_repair_tick(struct ing_partition *p);
/* cluster.c: the ingestor as a member; follow.c: the catalogue that another writes */
void ing_cluster_watch(struct ing_ingestor *i);        /* on the first shard's loop */
void ing_cluster_unwatch(struct ing_ingestor *i);
void ing_follow_tick(struct ing_partition *p);
void ing_follow_covered(struct ing_partition *p);      /* jobs whose cuts the catalogue has by now */
/* The catalogue is one of somebody else's: jobs that it has done are done. False: it is of another log, everything
 * begins anew, and no job goes on. None of them is out. */
bool ing_follow_found(struct ing_partition *p);
/* select.c, page.c */
void ing_select(struct kl_bus_service *s, struct kl_bus_question *q);
void ing_asks_check(struct ing_partition *p);          /* applied moved on, or time passed */
void ing_asks_resume(struct ing_partition *p);
void ing_asks_end(struct ing_partition *p, enum kl_code code, const char *words);
void ing_found_drop(struct ing_partition *p);
void ing_found_tick(struct ing_partition *p, int64_t now_ns);
struct ing_plan;
/* exemplars.c: items of TSP_SEL_EXEMPLARS, and in `page` whether there is more. NULL: of all series. */
void ing_exemplars_page(const struct ing_head *h, const roaring_bitmap_t *set,
                        const struct tsp_select *q, struct kl_buf *out, struct tsp_page *page);
struct ing_plan *ing_plan_new(struct ing_partition *p, struct ing_question *of, struct kl_err *err);
/* At hand: on the loop, which waits for no disk; KL_EAGAIN, and nothing done, where that is not enough. */
void ing_plan_render(struct ing_plan *plan, bool at_hand, struct kl_buf *out, enum kl_code *code,
                     struct kl_err *err);
bool ing_plan_is_small(const struct ing_plan *plan);   /* to be made on the loop itself */
size_t ing_plan_size(const struct ing_plan *plan);     /* bytes of the page, about */
/* Its head as planned. Rendered, it may have to end sooner: where it is larger than the buffer may be. */
const struct tsp_page *ing_plan_page(const struct ing_plan *plan);
void ing_plan_free(struct ing_plan *plan);
/* An ask is answered with a->page, or refused. */
void ing_ask_settle(struct ing_ask *a, enum kl_code code, const char *words);
/* Is the partition to let chunks go, or to swap files, before anything more is planned? Then it is to be held. */
bool ing_ask_waits(const struct ing_partition *p);
void ing_ask_hold(struct ing_ask *a);
bool ing_serving(const struct ing_partition *p);
/* A page of the partition has come back from its worker: what waited for that goes on. */
void ing_page_back(struct ing_partition *p);
/* partial.c, on the loop: an ask's aggregate, until it is settled; called again when it was held. */
void ing_partial_go(struct ing_ask *a);
void ing_partial_free(struct ing_partial *x);
/* told.c: spans of records that are traced, and of questions; a word of questions refused */
void ing_told_record(struct ing_partition *p, const struct kl_bus_record *rec, int64_t begin_ns);
void ing_told_question(struct ing_question *of);
/* disk.c */
void ing_disk_tick(struct ing_ingestor *i);
/* metrics.c */
void ing_metrics_init(struct ing_ingestor *i);
void ing_metrics_collect(struct ing_partition *p);
void ing_metrics_show(struct ing_ingestor *i);
#endif
