#ifndef QR_PRIV_H
#define QR_PRIV_H
/*
 * What the querier's files share. A shard is a whole querier on one loop: placement table,
 * catalogue pointers, open filesets, the queue of jobs; shards share nothing but metrics. All of a
 * shard is touched on its loop only, except what a struct below says runs on workers.
 *
 *   job      one request, from admission to release              querier.c
 *   fan      n items of work on several workers                  querier.c
 *   fetch    everything that matches, of one selector            fetch.c, live.c, stored.c
 *   merge    the fetch's sources as one run by fingerprint       merge.c
 *   push     an aggregate of the ingestors' in place of series   push.c
 *   decode   chunks into columns                                 decode.c
 *   query    a PromQL query: fetches, decodes, evaluates         query.c
 *   names    label names, values, series, metadata               names.c
 *
 * Precedence of samples with one timestamp: filesets by rising id (log position), then the live
 * answer in the order given; the later one wins. Where a series came from two partitions (its
 * metric was spread in between), the partition of the newest layout wins.
 */
#include <stdatomic.h>

#include "libblock/manifest.h"
#include "libkoal/base/hedge.h"
#include "libtsproto/layout.h"
#include "libtsproto/logmark.h"
#include "libtsproto/select.h"
#include "libpromql/pql.h"
#include "querier/lineage.h"
#include "querier/querier.h"

enum {
    QR_SHARDS_MAX = 16,
    QR_WAITING_MAX = 256,                              /* jobs in a shard's queue; past it 503 */
    QR_PARTS_ACTIVE_MAX = 64,                          /* partitions of one fetch asked at once */
    QR_ASK_TRIES = 3,
    QR_AFTER_MAX = 64,
    QR_ASK_TIMEOUT_MS = 30 * 1000,
    QR_ASK_PATIENCE_MS = 2000,                         /* with a member, while there is another */
    QR_RETRY_MS = 100,
    QR_CATALOGUE_TRIES = 5,
    QR_FILESETS_BYTES_MAX = 256 << 20,                 /* memory of open filesets, of a shard */
    QR_FILESETS_OPEN_MAX = 4096,
    QR_WARNINGS_MAX = 64,
    QR_METADATA_FILES_MAX = 100,                       /* the newest of a partition tell the metadata */
    QR_SELECTORS_MAX = 64,                             /* match[] of one request */
    QR_TOLD_TEXT_MAX = 1024,                           /* of a slow query's text */
    QR_RAN_MAX = 1000, QR_RAN_TEXT_MAX = 4096,         /* the ledger's, of a shard */
    QR_TICK_MS = 200,                                  /* how often a job asks whether it is wanted */
    QR_INLINE_BYTES = 96 * 1024,                       /* less than this is not worth a hop */
    QR_INLINE_SAMPLES = 20 * 1000
};

/* ---- querier.c: shards, jobs, fans ---- */
/* The configuration in force: a reference, the caller's; NULL where none was given. */
struct kl_config *qr_config(const struct qr_querier *q);
struct qr_table { struct tsp_placement *placement; unsigned refs; };
struct qr_manifest { struct blk_manifest m; struct qr_lineage *lineage; unsigned refs; };
struct qr_pointer {
    bool known;
    uint64_t revision, digest;
    struct qr_manifest *manifest;                      /* of this revision, once it was read; or NULL: */
    struct qr_manifest *before;                        /* the last that was read */
    int64_t  used_ns;                                  /* when either was given out last, as the newest by an owner's answer */
};
struct qr_cached;
struct qr_job;
struct qr_known_order;
struct qr_kept_query;
struct qr_repeat;
struct qr_ahead;
enum { QR_REPEATS_MAX = 64, QR_REPEAT_TEXT_MAX = 4096, QR_AHEAD_PARTS_MAX = 4, QR_AHEAD_FILES_MAX = 1024 };
struct qr_repeats {                                    /* repeats.c, ahead.c */
    struct qr_repeat *newest, *oldest;                 /* by when they were last asked */
    unsigned count;
    struct kl_env_timer timer;
    struct qr_ahead *running;                          /* one at a time */
    int64_t room_bytes, filled_ns;                     /* what may be read ahead now; as of then */
};
struct qr_results {                                    /* results.c */
    struct qr_kept_query **buckets, *newest, *oldest;
    size_t bytes, bytes_max;
};
enum { QR_ORDERS_MAX = 64 };
struct qr_orders {                                     /* orders.c */
    _Atomic(struct qr_known_order *) at[QR_ORDERS_MAX];
    _Atomic size_t bytes;
    atomic_int readers;
    atomic_bool full;                                  /* one found no place */
    int64_t trimmed_ns;
};

/* of questions to ingestors */
enum { QR_HEDGE_LEAST_MS = 10, QR_HEDGE_MOST_MS = 1000, QR_HEDGE_FIRST_MS = 250, QR_HEDGE_BURST = 16 };

enum { QR_HEDGE_PUSH_LEAST_MS = 100 };                 /* aggregates: to make one twice is dearer than to send a page twice */

/* Notes that hold for a while. push.c: an aggregate that was
 * refused, by its text; a partition of which no member answered. members.c: an owner that was silent. */
enum { QR_REFUSED_MAX = 64, QR_SILENT_MAX = 64 };
struct qr_noted { uint64_t key; int64_t until_ns; };

/* stop.c: an aggregate that is asked for, in who asks; its name to whoever was asked, by `subject`. */
struct qr_fetch;
struct qr_pushed {
    const struct qr_fetch *f;
    const char *subject;
    uint32_t partition;
    uint64_t number;
    bool stopped;
    struct qr_pushed *next;                            /* of its job */
};

struct qr_losses { uint32_t partition; struct tsp_logmark mark; };
struct qr_shard {
    struct qr_querier *q;
    struct kl_env_loop *loop;
    struct kl_bus_watch placement_watch, catalogue_watch, loss_watch;
    struct qr_losses *losses;                          /* losses.c: of logs that lost something */
    uint32_t loss_count;
    struct kl_env_task open_task, close_task;
    _Atomic bool opened, closed, placement_known, catalogue_known;
    struct tsp_layout *layout;
    bool placement_current;                            /* every key of the table was seen */
    struct qr_table *table;                            /* out of it */
    uint64_t placement_seen;                           /* revisions up to here have been re-read for */
    struct qr_pointer *pointers;
    size_t pointer_count;
    struct qr_cached **cache;                          /* hash buckets */
    struct qr_cached *newest, *oldest;                 /* the LRU list */
    size_t cache_bytes, cache_count;
    struct kl_env_listener listener;
    struct blk_keep keep;                              /* what open filesets keep of what was read */
    int64_t trimmed_ns;
    struct qr_orders orders;
    struct qr_results results;
    struct qr_noted refused[QR_REFUSED_MAX], silent[QR_SILENT_MAX];
    struct qr_repeats repeats;
    uint64_t asker, pushed;                            /* its name to ingestors; questions for aggregates so far */
    struct kl_hedge hedge, push_hedge;                 /* when a question is put to a second member: pages, aggregates */
    struct qr_job *waiting_first, *waiting_last;
    unsigned active, waiting;
    unsigned pouring;                                  /* answers that are still being read */
    struct qr_job *jobs;                               /* all that are not yet answered */
    struct qr_ran *ran;                                /* ledger.c: what was answered lately */
    size_t ran_count;
};

struct qr_metrics {
    struct kl_metric *results_steps, *results_hits, *results_bytes;
    struct kl_metric *repeats, *ahead_bytes, *ahead_requests, *ahead_used, *ahead_wasted, *ahead_stopped;
    struct qr_read_metrics { struct kl_metric *wanted, *memory, *disk, *store, *shared, *requests; }
        read_data, read_index;                         /* blk_tally */
    struct kl_metric *kept_hits, *kept_misses, *kept_bytes;
    struct kl_metric *started, *refused, *failed, *timeouts, *canceled, *samples, *series, *pages,
                     *page_bytes, *retries, *hedges, *hedges_won, *pushes, *pushes_refused, *pushes_stopped, *filesets_read, *filesets_opened,
                     *filesets_corrupt, *partial, *active, *slow;
    struct kl_metric_hist *seconds;
};

struct qr_querier {
    struct kl_env *env;
    struct kl_bus *bus;
    struct kl_store *store;
    struct qr_options o;
    unsigned shard_count, workers;
    struct qr_shard shards[QR_SHARDS_MAX];
    struct kl_metrics *own_metrics;                    /* when none were handed in */
    struct qr_metrics m;
    int64_t started_ms;
    _Atomic unsigned turn;
    _Atomic unsigned jobs;                             /* submitted and not yet released */
    _Atomic bool stopping;
};

/* What a job has cost so far, for the slow-query log. */
struct qr_cost { uint64_t series, samples, pages, page_bytes, partitions, filesets; };

struct qr_job {
    /* in; the maker's */
    char     tenant[BLK_TENANT_MAX + 1];
    bool     strong, partial;                          /* partial: an incomplete answer is welcome */
    struct { uint32_t partition; uint64_t seq; } after[QR_AFTER_MAX];  /* a write's token: what must be in it */
    uint32_t after_count;
    int64_t  timeout_ms;                               /* 0: the querier's */
    void   (*start)(struct qr_job *j);                 /* its turn has come */
    void   (*finish)(struct qr_job *j);                /* once: answer; `failure` says whether */
    void   (*release)(struct qr_job *j);               /* nothing is in flight: free it */
    bool   (*gone)(struct qr_job *j);                  /* has the asker left? NULL: never */
    struct kl_span text;                               /* a query's, for the ledger; lives as the job */
    int64_t  range_from_ms, range_to_ms, step_ms;
    char     path[64], request_id[65];                 /* what was asked, and what that is called */
    struct kl_trace above;                             /* the request's span; often not on */
    /* out */
    struct pql_failure failure;
    struct pql_query *pql;                             /* warnings go there while it is set */
    unsigned warning_count;
    char    *warnings[QR_WARNINGS_MAX];
    /* the machinery's */
    struct qr_querier *q;
    struct qr_shard *shard;
    struct qr_cost cost;
    struct kl_trace trace;                             /* its own span, below that */
    struct kl_budget budget;                           /* what was fetched, undecoded */
    int64_t submitted_ns, begun_ns, deadline_ns;
    unsigned holds;                                    /* operations under way that will come back */
    bool running, ended, pours;
    bool hedges, reuses, pushes;                       /* features of its tenant, as it began */
    bool aside;                                        /* nobody asked for it: not told, not counted */
    _Atomic bool stop;                                 /* for workers: nobody wants it any more */
    struct qr_pushed *pushed;                          /* aggregates that it waits for, or did */
    struct kl_env_task task;
    struct kl_env_timer tick;
    struct qr_job *next, *newer, *older;
};

/* Any thread. The job is the shard's until release. */
void qr_submit(struct qr_querier *q, struct qr_job *j);
/* All below on the job's loop. The first end counts; finish is called then. */
void qr_job_done(struct qr_job *j);
void qr_job_fail(struct qr_job *j, enum pql_error kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void qr_job_warn(struct qr_job *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void qr_hold(struct qr_job *j);
void qr_drop(struct qr_job *j);                        /* the last one releases: touch it no more */
int64_t qr_job_left_ms(const struct qr_job *j);
/* In `finish`: its answer will be read for a while yet. Its turn is over, the next may run; what it
 * holds stays until it is dropped. False: as many as may do so already. */
bool qr_job_pours(struct qr_job *j);
enum pql_error qr_kind_of(enum kl_code code);

/* ---- ledger.c: which queries run, and which ran. On the shard's loop. ---- */
void qr_ledger_begin(struct qr_job *j);
void qr_ledger_end(struct qr_job *j);
void qr_ledger_close(struct qr_shard *s);
/* ---- told.c: what is told of a job that has ended; of what a partition cost it ---- */
void qr_told_job(struct qr_job *j, int64_t now_ns);
struct qr_part;
void qr_told_part(struct qr_part *p);
/* A step of the job, where it is traced: "plan", "decode", "evaluate". */
void qr_told_step(struct qr_job *j, const char *name, int64_t begin_ns, int64_t end_ns);
/* Visits every shard in turn, on its loop; `done` on the last one's. */
struct qr_census {
    struct qr_querier *q;
    void (*visit)(struct qr_census *c, struct qr_shard *s);
    void (*done)(struct qr_census *c);
    unsigned at;
    struct kl_env_task task;
};
void qr_census_start(struct qr_census *c);             /* any thread */
struct qr_ran {                                        /* one query text of one tenant and range */
    char    tenant[BLK_TENANT_MAX + 1];
    char   *text;
    size_t  text_size;
    uint64_t hash;
    int64_t range_s;
    uint64_t count;
    int64_t total_ns, last_ns;
};

/* Items 0..count-1 on several workers, each worker with a number of its own below `workers`. */
struct qr_fan_task { struct kl_env_task task; struct qr_fan *fan; unsigned worker; };
struct qr_fan {
    struct qr_job *job;
    size_t count;
    void (*item)(struct qr_fan *f, size_t item, unsigned worker);
    void (*done)(struct qr_fan *f);                    /* on the loop, unless it ran inline */
    _Atomic size_t next;
    unsigned left;
    struct qr_fan_task tasks[PQL_WORKERS_MAX];
};
/* True: `here`, or nothing to do: all items have run, done is not called. */
bool qr_fan_run(struct qr_fan *f, bool here);

/* ---- catalogue.c: placement table and manifests ---- */
void qr_catalogue_open(struct qr_shard *s);
void qr_catalogue_close(struct qr_shard *s);
struct qr_table *qr_table_ref(struct qr_table *t);
void qr_table_unref(struct qr_table *t);
struct qr_manifest *qr_manifest_ref(struct qr_manifest *m);
void qr_manifest_unref(struct qr_manifest *m);
/* Reads the KV's table and makes it the shard's when it is newer. Here as below, done is always
 * called, also when the job has ended meanwhile. */
struct qr_reread {
    struct qr_job *job;
    void (*done)(struct qr_reread *r);
    struct kl_bus_kv kv;
    uint32_t number;                                   /* 0: the table itself, then its spreads' keys */
    enum kl_code code; struct kl_err err;
};
void qr_placement_reread(struct qr_reread *r);
/* The manifest of a partition, at least as new as `least`; `fresh`: whatever the KV says now.
 * out: NULL with KL_OK when the partition has no catalogue yet. */
struct qr_lookup {
    struct qr_job *job;
    uint32_t partition;
    uint64_t least;
    bool fresh;
    void (*done)(struct qr_lookup *l);
    enum kl_code code; struct kl_err err;
    struct qr_manifest *manifest;                      /* a reference, the asker's */
    struct qr_pointer want;
    struct qr_manifest *before;
    unsigned tries;
    struct kl_bus_kv kv;
    struct kl_env_task task;
    struct kl_env_timer wait;
};
void qr_lookup_start(struct qr_lookup *l);

/* ---- cache.c: open filesets ---- */
struct qr_open {
    struct qr_job *job;
    const struct blk_info *info;                       /* kept until done */
    void (*done)(struct qr_open *o);                   /* always later, never within qr_open_start */
    enum kl_code code; struct kl_err err;
    struct blk_fileset *fileset;                       /* a reference, the asker's */
    struct blk_bytes took;                             /* nothing, where another asked for it as well */
    struct qr_open *next;
    struct kl_env_task task;
};
void qr_open_start(struct qr_open *o);
/* The cached one as a new reference, or NULL. */
struct blk_fileset *qr_cache_get(struct qr_shard *s, const struct blk_info *info);
/* What reading took is counted. */
void qr_cache_tally(struct qr_shard *s, const struct blk_tally *t);
/* After a select: gives back some of what is kept, where it grows too much. */
void qr_cache_trim(struct qr_shard *s);
void qr_cache_forget(struct qr_shard *s, const struct blk_info *info);
void qr_cache_close(struct qr_shard *s);

/* ---- fetch.c: what matches one selector ---- */
struct qr_meta { struct kl_span metric, unit, help; uint8_t type; };
struct qr_exemplar { struct kl_labels series, labels; int64_t time_ms; double value; };
struct qr_found {                                      /* a series in one source */
    struct kl_fp fp;
    struct kl_labels labels;
    const struct blk_chunk_ref *chunks;
    uint32_t chunk_count, partition;
    int64_t rows_ms, window_start_ms;                  /* of a rollup: its resolution, and window; else 0 */
    const struct blk_info *of;                         /* the fileset; of lone rows theirs; NULL: none, or live */
    bool lone, left_out, under;                        /* rows.c */
};
struct qr_source {                                     /* a run of series by rising fingerprint */
    uint32_t partition;
    uint64_t order;                                    /* a fileset's id; live: UINT64_MAX */
    struct qr_found *found;
    size_t count, room;
    struct kl_span *texts;                             /* names, values */
    size_t text_count, text_room;
    struct qr_meta *metas;
    size_t meta_count, meta_room;
    size_t charged;                                    /* to the job's budget */
    struct kl_arena arena;
};

struct qr_page { void *bytes; size_t size; bool borrowed; };     /* borrowed: of a bundle */
struct qr_stored {                                     /* one fileset, being read */
    struct qr_part *part;
    const struct blk_info *info;
    struct qr_open open;
    struct kl_env_task task;
    struct qr_source *source;
    struct qr_hidden *hidden;                          /* by deletions; NULL: nothing */
    bool read;                                         /* opened, and may hold what is wanted */
    bool lone;                                         /* a rollup that stands for no samples (rows.c), */
    const struct blk_info *of;                         /* and whose it is; or itself */
    struct blk_tally tally;
    enum kl_code code; struct kl_err err;
};
struct qr_part {                                       /* one partition of a fetch */
    struct qr_fetch *f;
    uint32_t partition;
    struct kl_env_timer retry;
    struct kl_trace trace;                             /* its span, of all that it takes */
    int64_t begun_ns;
    unsigned tries;
    bool failed, has_cursor;
    bool any, stale;                                   /* nobody is up to date: whatever they have */
    struct kl_fp cursor;
    struct kl_span cursor_text;                        /* lies in the last page */
    uint64_t catalogue_revision;
    struct qr_page *pages;
    size_t page_count, page_room;
    struct qr_lookup lookup;
    struct qr_manifest *manifest;
    struct qr_stored *files;
    size_t file_count, file_next, files_out;
    bool file_missing, reread;
};
struct qr_fetch {
    /* in; the asker's until done */
    struct qr_job *job;
    enum tsp_select_what what;
    const struct kl_matcher *matchers;
    size_t matcher_count;
    int64_t from_ms, to_ms;
    struct kl_span label;
    uint32_t limit;
    bool probe;                                        /* what is missing fails nothing: probe_failed */
    bool quiet;                                        /* metadata: no word of filesets left unread */
    struct qr_ahead *ahead;                            /* a probe of filesets alone, that finds nothing: what is
                                                          read of them is kept */
    void (*done)(struct qr_fetch *f);                  /* on the loop; not after the job has ended */
    uint32_t id;                                       /* the asker's */
    bool later;                                        /* floats are decoded when they are looked at */
    enum pql_fold fold;                                /* what is wanted of them: rollups may do (rows.c) */
    int64_t fold_ms, range_ms;                         /* as pql_need: fold_ms, fold_range_ms */
    int64_t rows_max_ms;                               /* -1: exact ones; 0: none; else up to it, also if near */
    const struct pql_push *push;                       /* NULL: series are wanted; else what could do instead */
    int64_t lookback_ms;                               /* of the push; and whether its samples are counted */
    bool    tallied;
    /* out, where it could be pushed: then the need is fed; or why not */
    bool    pushed;
    struct pql_fed_partials fed;
    char    unpushed[200];
    /* out: runs of equal fingerprints, in order of precedence; or texts, or metadata */
    struct qr_found *found;
    size_t found_count;
    struct kl_span *texts;
    size_t text_count;
    struct qr_meta *metas;
    size_t meta_count;
    struct pql_series *series;                         /* decode.c: by index of the first found */
    size_t sample_count, series_count, page_bytes;
    /* what it took, for query_explain: filesets that overlap, of these left unread for want of the
     * metric, and bytes of what was selected from the rest */
    size_t files_total, files_pruned, files_of_others;
    size_t stored_bytes, stored_series, live_series;
    struct blk_tally tally;                            /* what reading filesets took */
    int64_t rows_ms;                                   /* the coarsest rollup that was read; 0: none */
    /* state */
    bool no_rows;                                      /* they clashed with samples: begun anew */
    struct qr_table *table;
    struct tsp_select *select;
    uint64_t placement_revision;
    bool placement_reread, probe_failed;
    struct qr_reread reread;
    uint8_t *asked;                                    /* a bit a partition */
    uint32_t asked_of;
    struct qr_part **parts;
    size_t part_count, part_next, parts_active, parts_failed;
    void **bundles;                                    /* that pages lie in */
    size_t bundle_count;
    bool starting;
    struct kl_err last_err;
    struct qr_source **sources;
    size_t source_count, source_room;
    struct kl_env_task task;
    struct kl_err merge_err;
    size_t charged;
};
void qr_fetch_start(struct qr_fetch *f);
void qr_fetch_plan(struct qr_fetch *f);                /* only its parts, by the shard's table now */
void qr_fetch_deinit(struct qr_fetch *f);              /* all that it found goes */
/* Something is missing from the answer: a warning, or the job's end when it wants no partial one. */
/* losses.c */
void qr_losses_open(struct qr_shard *s);
void qr_losses_close(struct qr_shard *s);
void qr_losses_warn(struct qr_fetch *f, uint32_t partition);           /* what it lost in f's time */
void qr_fetch_incomplete(struct qr_fetch *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
struct kl_span qr_fetch_metric(const struct qr_fetch *f);      /* of an equality, or {NULL,0} */
void qr_part_end(struct qr_part *p);
/* Around the start or end of several parts: what they lead to comes after the last of them. */
void qr_parts_begin(struct qr_fetch *f);
void qr_parts_end(struct qr_fetch *f);
/* members.c: whom a partition is asked of. Is there another to turn to? The subject of the next question,
 * to another than `but` (0: nobody); returns who that is, for _silent when nothing was said. */
bool     qr_members_another(const struct qr_part *p);
uint64_t qr_members_subject(const struct qr_part *p, uint64_t but, char *out, size_t size);
void     qr_members_silent(struct qr_shard *s, uint64_t whom);
bool     qr_members_all_silent(const struct qr_part *p);               /* as far as is known */
/* live.c: partitions of one owner, at most TSP_ALSO_MAX + 1 */
void qr_live_start(struct qr_fetch *f, struct qr_part *const *parts, uint32_t count);
void qr_live_parse(struct qr_part *p, struct qr_source *s, struct kl_err *err);
/* push.c: aggregates in place of series. _plan, when the parts are planned: is it to be asked for? _cannot: it
 * was, and it has to be asked for series; `remember`: nor is it asked for in the next half minute. */
void    qr_push_plan(struct qr_fetch *f);
void    qr_push_cannot(struct qr_fetch *f, bool remember, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
bool    qr_push_meets(const struct qr_fetch *f, const struct qr_manifest *m);  /* a fileset has a part of it */
void    qr_push_take(struct qr_fetch *f);              /* in place of qr_merge: feeds, or merge_err */
int64_t qr_push_timeout_ms(const struct qr_job *j, bool another);      /* another: there is a member besides */
void    qr_push_failed(struct qr_part *p, const struct kl_err *err);   /* its question: _cannot, for that reason */
void    qr_push_silent(const struct qr_part *p);       /* no member of it answered */
void    qr_note(const struct qr_shard *s, struct qr_noted *notes, size_t max, uint64_t key, int64_t for_ms);
bool    qr_noted(const struct qr_shard *s, const struct qr_noted *notes, size_t max, uint64_t key);
/* stop.c: aggregates that are not wanted any more, so that nobody makes them to the end. _begin when it is put, with its
 * name in `push`; _end when it was answered. What is stopped is answered all the same, sooner. */
void    qr_pushed_begin(struct qr_pushed *x, const struct qr_fetch *f, uint32_t partition, const char *subject,
                        struct tsp_push *push);
void    qr_pushed_end(struct qr_pushed *x);
void    qr_stop(struct qr_pushed *x);
void    qr_stop_all(struct qr_job *j, const struct qr_fetch *f);       /* f NULL: of all */
/* rows.c: rollups in place of samples */
bool         qr_rows_fit(const struct qr_fetch *f, int64_t resolution_ms);
bool         qr_rows_lone(const struct qr_fetch *f, const struct blk_manifest *m, const struct blk_info *info);
void         qr_rows_choose(struct qr_part *p);
/* Leaves lone rows out that others speak for, and marks what lies under them; true: what is left cannot be told together. */
bool         qr_rows_clash(struct qr_fetch *f);
/* Of a series' n, for samples that are marked: do lone rows stand for that time? */
bool         qr_rows_over(const struct qr_found *g, size_t n, int64_t time_ms);
/* To the end of a row that `to` may lie in, where rows are read whose ends count. */
int64_t      qr_rows_to(const struct qr_fetch *f);
/* Whether a row becomes its first and last sample; then: how many of `count` histograms at `times` that they become,
 * in place (room for twice as many), floats by NULL in `hists`. */
bool         qr_rows_ends(const struct qr_fetch *f);
uint32_t     qr_rows_widen(uint32_t count, int64_t *times, int64_t *starts, double *values, const struct kl_hist **hists,
                           struct pql_unseen *unseen);
void         qr_rows_value(const struct qr_fetch *f, struct kl_hist **hist, double *value);
void         qr_rows_tell(const struct qr_fetch *f, struct pql_query *q);
/* hidden.c: what deletions hide of a fileset. NULL: nothing. On the worker that selects. */
struct qr_hidden *qr_hidden_new(const struct blk_manifest *m, const struct blk_info *info);
void         qr_hidden_free(struct qr_hidden *h);
/* Labels do not tell whether anything is left of a series: a select is to be opened with its chunks. */
bool         qr_hidden_needs_chunks(const struct qr_hidden *h);
/* Leaves what is not hidden; `left`: is there anything in the fetch's range? The chunks are h's until
 * the next call. */
enum kl_code qr_hidden_series(struct qr_hidden *h, const struct qr_fetch *f, struct blk_selected *got,
                              bool *left, struct kl_err *err);
bool         qr_hidden_at(struct qr_hidden *h, struct kl_labels labels, int64_t time_ms);
/* Names (label.at NULL), or values of a label, of series that have something left; in order, once. */
enum kl_code qr_hidden_texts(struct qr_stored *x, struct kl_span label,
                             void (*each)(void *ctx, struct kl_span text), void *ctx,
                             struct kl_err *err);
/* stored.c */
void qr_stored_start(struct qr_part *p);
void qr_stored_free(struct qr_part *p);

struct qr_source *qr_source_new(struct qr_job *j, uint32_t partition, uint64_t order);
void         qr_source_free(struct qr_job *j, struct qr_source *s);
/* Any thread, one at a time a source. KL_ELIMIT past the budget. */
enum kl_code qr_source_found(struct qr_job *j, struct qr_source *s, const struct qr_found *found,
                             struct kl_err *err);
enum kl_code qr_source_text(struct qr_job *j, struct qr_source *s, struct kl_span text,
                            struct kl_err *err);
enum kl_code qr_source_meta(struct qr_job *j, struct qr_source *s, const struct qr_meta *meta,
                            struct kl_err *err);
enum kl_code qr_source_charge(struct qr_job *j, struct qr_source *s, struct kl_err *err);
enum kl_code qr_over_budget(const struct qr_job *j, struct kl_err *err);

/* ---- texts.c: sorts them, each once; returns how many are left. Quick where they are a few sorted runs. ---- */
size_t qr_texts_unite(struct kl_span *texts, size_t count);

/* ---- merge.c. On a worker, or the loop when there is little. ---- */
void qr_merge(struct qr_fetch *f);

/* ---- decode.c: found series of several fetches into f->series ---- */
struct qr_scratch;
struct qr_decode {
    struct qr_fan fan;
    struct qr_job *job;
    struct qr_fetch *const *fetches;
    size_t fetch_count;
    size_t *first_item;                                /* of each fetch; one more */
    struct kl_arena *arenas;                           /* one a worker where there is no query */
    struct qr_scratch *scratch[PQL_WORKERS_MAX];
    struct kl_err *failures;                           /* of each worker what it met first */
    _Atomic uint64_t samples;                          /* decoded, of all rounds */
    void (*done)(struct qr_decode *d);
};
/* The samples of a series that was left for later, into scratch of that worker. */
bool   qr_decode_later(struct qr_decode *d, struct qr_fetch *f, const struct pql_series *s,
                       unsigned worker, struct pql_series *loaded);
/* True: it ran here. Afterwards f->series has holes (labels.at NULL) where found had more of one
 * series, or no sample fell into the range; qr_decode_compact closes them and says how many stay. */
bool   qr_decode_run(struct qr_decode *d);
const struct kl_err *qr_decode_failure(const struct qr_decode *d);     /* NULL: none */
size_t qr_decode_compact(struct qr_fetch *f, struct kl_fp *key);       /* key: of those that stay, in order */
void   qr_decode_deinit(struct qr_decode *d);

/* ---- order.c: any thread ---- */
/* Sorts series by their labels; leaves them as they are when the job has no memory for it. NULL: the
 * caller has charged it. */
void qr_order_series(struct qr_job *j, struct pql_series *series, size_t count);
/* The same, where `key` stands for these series in this order: qr_decode_compact. */
void qr_order_known(struct qr_job *j, struct kl_fp key, struct pql_series *series, size_t count);

/* ---- orders.c: workers get and put; the loop trims ---- */
bool qr_orders_get(struct qr_orders *o, struct kl_fp key, uint32_t *index, size_t count);
void qr_orders_put(struct qr_orders *o, struct kl_fp key, const uint32_t *index, size_t count);
void qr_orders_trim(struct qr_orders *o, int64_t now_ns);
void qr_orders_free(struct qr_orders *o);

/* ---- reuse.c: range queries out of pieces of earlier answers ---- */
struct qr_query;
struct qr_reuse;
/* After the parsing. True: it goes on by itself, and calls qr_query_go or _went. */
bool qr_reuse_start(struct qr_query *x);
/* An evaluation is done; true: it was one of a stretch, or is looked at first. */
bool qr_reuse_done(struct qr_query *x);
void qr_reuse_free(struct qr_query *x);                /* nothing is out any more */
void qr_reuse_tell(const struct qr_query *x, uint64_t *steps, uint64_t *cached, uint32_t *pieces);
/* The partitions that were asked how they stand. */
void qr_reuse_parts(const struct qr_query *x, void (*each)(void *ctx, const struct qr_part *p), void *ctx);
void qr_results_close(struct qr_results *r);
/* At most so much from here on; what is past it goes, the oldest first. */
void qr_results_bound(struct qr_results *r, size_t bytes_max);

/* ---- repeats.c: range queries that come again. On the shard's loop. ---- */
void qr_repeats_note(struct qr_query *x);              /* it has its answer, and not yet let go of what it read */
void qr_repeats_close(struct qr_shard *s);
void qr_repeats_changed(struct qr_shard *s);           /* the catalogue, or what may be read ahead */
void qr_ahead_ended(struct qr_shard *s, bool busy);    /* the next one: soon, or when others make room */
/* ---- ahead.c: reading what they will want ---- */
bool qr_ahead_idle(const struct qr_shard *s);
void qr_ahead_start(struct qr_shard *s, struct qr_repeat *r);          /* none is running */
void qr_ahead_forget(struct qr_shard *s, const struct qr_repeat *r);
bool qr_ahead_wants(const struct qr_fetch *f, const struct qr_part *p, const struct blk_info *info);
bool qr_ahead_may(const struct qr_fetch *f);           /* read on. Any thread */
void qr_ahead_select(struct qr_stored *x);             /* on a worker, of an open fileset */
void qr_ahead_read(struct qr_stored *x);               /* on the loop: it took x->tally and x->open.took */

/* ---- query.c ---- */
struct qr_round {                                      /* what one NEED asked for */
    struct qr_round *before;
    struct qr_fetch **list;
    size_t count, left;
    struct qr_fetch fetches[];
};
struct qr_query {
    struct qr_job job;
    struct pql_params params;                          /* text is the maker's until release */
    int64_t rows_max_ms;                               /* the maker's: as of a fetch */
    void (*answer)(struct qr_query *x);                /* on the loop: `result`, or job.failure */
    const struct pql_result *result;
    int64_t parse_ns, fetch_ns, decode_ns, eval_ns;
    struct pql_query *parsed;
    struct pql_failure parse_failure;
    bool steady_known, steady;                         /* pql_steady, where a worker has found out */
    int64_t slack_ms;
    bool compiles;                                     /* costly regular expressions, while it is evaluated */
    struct qr_round *round;                            /* the last one; all live until release */
    uint64_t fetched_samples, fetched_series;
    uint64_t pushed_samples, pushed_series;            /* that ingestors looked at instead */
    bool unfed;                                        /* the round is decoded, not yet fed */
    int64_t *operator_ns;                              /* of each operator; NULL: not wanted */
    size_t operator_count;
    _Atomic int64_t work_ns;                           /* of all workers, on the present operator */
    bool explain;                                      /* the maker's: fill them */
    struct qr_reuse *reuse;
    const char *reuse_passed;                          /* why no piece was looked for; or NULL */
    unsigned repeats;                                  /* how often it came again, a window further */
    uint64_t ahead_used, ahead_wasted;                 /* bytes that were read ahead for it, since the last time */
    struct qr_decode decode;
    struct qr_fan fan;
    enum pql_state state;                              /* of the step that a worker made */
    struct kl_env_task task;
    int64_t mark_ns, evaluate_ns;                      /* the last lap; since when nothing is fetched */
};
void qr_query_init(struct qr_query *x);                /* job.tenant ... and params are the maker's */
void qr_query_deinit(struct qr_query *x);
/* What is fetched for a need; its `done` is the caller's. */
struct qr_fetch qr_query_need(struct qr_job *j, const struct pql_need *n, int64_t rows_max_ms);
void qr_query_go(struct qr_query *x);                  /* the next step of x->job.pql */
void qr_query_went(struct qr_query *x);                /* what comes after x->state */
/* Pure: what the loop does itself. To parse and plan it, where it is short, and no regular expression in it repeats or
 * names a class of characters: a few bytes of such are compiled for a tenth of a second. To evaluate it. */
bool qr_query_parses_here(struct kl_span text);
bool qr_query_plans_here(const struct pql_query *q);   /* once it is known: its text, again and again */
bool qr_query_compiles_here(struct kl_span text);      /* the regular expressions of its label_replace */
bool qr_query_is_small(uint64_t samples, uint64_t series, uint64_t steps, uint64_t operators);

/* ---- names.c: several selectors, one fetch each, and their union ---- */
struct qr_names {
    struct qr_job job;
    enum tsp_select_what what;
    struct kl_span label;
    int64_t from_ms, to_ms;
    uint32_t limit;                                    /* 0: none */
    bool with_metadata;                                /* besides, of the same time: `metas` */
    /* On the loop, between the union and the answer; ends in qr_job_done. NULL: at once. */
    void (*refine)(struct qr_names *n);
    bool separate;                                     /* SERIES: no union; each by its own range */
    size_t selector_count;                             /* 0: one that matches everything */
    struct { const struct kl_matcher *matchers; size_t count; int64_t from_ms, to_ms; }
        selectors[QR_SELECTORS_MAX];
    struct kl_arena arena;                             /* of the selectors */
    size_t regex_bytes;                                /* of all selectors: qr_names_weigh */
    void (*answer)(struct qr_names *n);
    /* out */
    struct kl_span *texts;                             /* sorted, each once */
    struct kl_labels *labels;                          /* sorted by kl_labels_cmp, each once */
    struct qr_meta *metas;                             /* sorted by metric */
    size_t meta_count;                                 /* of them; `count` too where they are all */
    struct pql_series *series;
    struct qr_exemplar *exemplars;                     /* by series, then time; each once */
    size_t count;
    size_t counts[QR_SELECTORS_MAX];                   /* separate: of each, one after another */
    bool limited, over;                                /* cut; past its budget, or damaged */
    /* state */
    struct qr_fetch *fetches;
    struct qr_fetch **list;
    size_t fetch_count, fetch_left;
    struct qr_decode decoder;
    struct kl_arena arenas[PQL_WORKERS_MAX];
    struct kl_env_task task;
};
void         qr_names_init(struct qr_names *n);
/* Adds a match[]. KL_EINVAL with Prometheus' words, KL_ELIMIT past QR_SELECTORS_MAX. */
enum kl_code qr_names_selector(struct qr_names *n, struct kl_span text, struct kl_err *err);
/* KL_ELIMIT where its regular expressions and those before take more than a query's may. */
enum { QR_REGEX_BYTES_MAX = 16 << 20 };
enum kl_code qr_names_weigh(struct qr_names *n, const struct kl_matcher *m, struct kl_err *err);
void         qr_names_deinit(struct qr_names *n);
#endif
