#ifndef DM_PRIV_H
#define DM_PRIV_H
/*
 * Inside a gate. A push becomes a ticket; its samples go to the open batch of each partition they
 * belong to; a batch closes by size or linger, is appended, and when its fate is known (acked, or
 * given up) every ticket with samples in it hears. A ticket that waits for no more batches answers.
 *
 *   open ──close──► appending ──ack──► settled           one batch of a partition is open at most,
 *                     ▲     │                            any number (bounded in bytes) under way
 *                     └─────┘ again, under the same id, until append_timeout
 *
 * Everything here runs on the gate's loop, except what doorman.c says of dm_push and dm_ready.
 */
#include <stdatomic.h>

#include "doorman/acked.h"
#include "doorman/doorman.h"
#include "doorman/ha.h"
#include "doorman/inspect.h"
#include "doorman/peers.h"
#include "doorman/share.h"
#include "doorman/table.h"
#include "doorman/tenants.h"
#include "libtsproto/influx.h"
#include "libtsproto/jsonl.h"
#include "libtsproto/layout.h"
#include "libtsproto/record.h"
#include "libtsproto/rw1.h"
#include "libtsproto/rw2.h"
#include "libtsproto/text.h"

enum { DM_RUN_MAX = 512 };                             /* samples handed on at once */
enum { DM_REPEAT_S = 3600 };                           /* a definition is sent again after that */
enum { DM_HISTS_MAX = 100000, DM_EXEMPLARS_MAX = 10000 };      /* of one series in one push */
enum { DM_HIST_BUCKETS_MAX = 20000 };                  /* so that one fits a record, packed or not */
enum { DM_SPARE_MAX = 64 };                            /* batches and writers kept for reuse */

/* One push under way. */
struct dm_ticket {
    struct dm_push *push;
    uint64_t serial;                                   /* unique in the gate */
    int64_t  begun_ns;
    uint32_t pending;                                  /* batches, and one while it is being read */
    unsigned status;                                   /* 0, or why it failed: the first failure */
    unsigned retry_after_s;
    char     words[300];
    struct dm_report report;
    uint64_t seen;                                     /* samples read so far, refused ones too */
    uint64_t dropped, deduplicated;                    /* by a rule; of a replica that does not lead */
    struct dm_ha_pair pair;                            /* of the series before */
    struct dm_ha_cluster *waits_on;                    /* set: what is read now counts for nothing */
    struct dm_ticket *next_waiting;
    unsigned waits;
    size_t   made;                                     /* bytes of records closed while it was read */
    bool     timeless;                                 /* some samples got our time: no retry is the same */
    struct kl_fp key;                                  /* what a retry of it would be known by */
    uint64_t turn;                                     /* of the policies it was first read under */
    uint64_t forgets;                                  /* the gate's, when `there` was looked up */
    /* A bit a partition, `map_words` of each: it has samples there; some of them failed; the log had
     * them all before this push came (acked.h). */
    size_t   map_words;
    uint64_t *touched, *failed, *there;
    uint64_t maps[];
};
static inline bool dm_map_has(const uint64_t *map, uint32_t n) { return map[n / 64] >> n % 64 & 1; }
static inline void dm_map_set(uint64_t *map, uint32_t n) { map[n / 64] |= UINT64_C(1) << n % 64; }

struct dm_defined { uint64_t ref; uint32_t row; };

struct dm_batch {
    struct dm_batch *next, **at;                       /* in the gate's list of live batches */
    struct dm_gate  *gate;
    struct dm_part  *part;
    struct tsp_record_writer *writer;                  /* while open */
    uint32_t serial;                                   /* unique in the gate; never 0 */
    uint32_t epoch;                                    /* the part's, when it was closed */
    uint32_t begun_s;
    int64_t  begun_ns;
    unsigned attempts;
    bool     appending;
    size_t   charged;                                  /* bytes counted in the part's inflight */
    uint64_t after_seq;                                /* acked before: its own must be above */
    struct kl_buf bytes;                               /* the record, once closed */
    struct kl_bus_append op;                           /* its trace: of the first traced waiter's */
    struct kl_env_timer  timer;                        /* while open: linger; then: the next try */
    struct dm_defined *defined; size_t defined_count, defined_room;
    struct dm_ticket **waiters; size_t waiter_count, waiter_room;
};

/* What a gate knows of a partition's log. */
struct dm_part {
    uint32_t number;
    struct dm_batch *open;
    unsigned under_way;                                /* batches closed and not settled */
    size_t   inflight_bytes;                           /* of those */
    uint64_t admitted;                                 /* serial of the last ticket let in */
    uint64_t refs;                                     /* given so far: dense, so readers may index by them */
    uint64_t incarnation, last_seq;                    /* as of the last ack; 0: none yet */
    uint32_t epoch;                                    /* definitions of another one count for nothing */
};

enum { DM_C_SAMPLES, DM_C_HISTS, DM_C_EXEMPLARS, DM_C_METADATA, DM_C_HITS, DM_C_MISSES, DM_C_EVICTED,
       DM_C_DEFINITIONS, DM_C_RECORDS, DM_C_RECORD_BYTES, DM_C_RETRIES, DM_C_FAILED, DM_C_PUSHES,
       DM_C_TURNED_AWAY, DM_C_FULL, DM_C_RESUMED, DM_C_LIMITED, DM_C_TEXTS, DM_C_DROPPED, DM_C_DEDUPLICATED,
       DM_COUNTERS };
struct dm_counters {                                   /* of all gates together */
    struct kl_metric *c[DM_COUNTERS];
    struct kl_metric *doormen;                         /* that live */
    struct kl_metric *by_reason[DM_REASONS];           /* refused; counted when a push is answered */
    struct kl_metric_hist *push_seconds;
    struct kl_metric unseen;                           /* where no registry was given */
};

/* ---- room.c: partitions whose ingestor's disk is too full ---- */
struct dm_disk;
struct dm_room {
    struct kl_bus_watch watch;
    struct dm_disk *disks; uint32_t count;             /* that are past their mark */
    uint16_t full[TSP_PARTITIONS_MAX];                 /* 0, or which of them, from 1 */
};
struct dm_gate;
void        dm_room_begin(struct dm_gate *g);          /* on the gate's loop, as all of these */
void        dm_room_end(struct dm_gate *g);
void        dm_room_deinit(struct dm_gate *g);
void        dm_room_placed(struct dm_gate *g);         /* the placement table has changed */
const char *dm_room_refusal(const struct dm_gate *g, uint32_t partition);     /* NULL: there is room */

/* everywhere.c: answers a push that the logs have once every replica has applied it */
void dm_push_acked(struct dm_push *push, uint32_t partition, uint64_t seq);      /* batch.c */
void dm_everywhere(struct dm_gate *g, struct dm_push *push);

/* ---- mark.c: which incarnation of a partition's log is accepted ---- */
struct dm_marks {
    struct kl_bus_watch watch;
    uint64_t accepted[TSP_PARTITIONS_MAX];             /* 0: any */
};
void dm_mark_begin(struct dm_gate *g);                 /* on the gate's loop, as all of these */
void dm_mark_end(struct dm_gate *g);
bool dm_mark_takes(const struct dm_gate *g, uint32_t partition, uint64_t incarnation, struct kl_err *err);

struct dm_gate {
    struct dm_doorman   *doorman;
    const struct dm_options *options;
    struct dm_counters  *counters;
    struct kl_env       *env;
    struct kl_bus       *bus;
    struct kl_log       *log;
    struct kl_env_loop  *loop;
    struct tsp_incarnation who;
    char     who_hex[33];
    uint64_t counter, ticket_serial;
    uint32_t serial;
    int64_t  born_ns;
    uint32_t now_s;                                    /* since then, as of the push being read */
    uint16_t period;                                   /* of DM_ACTIVE_S; from 1 on */
    struct kl_env_timer minute;
    bool     ending;

    struct tsp_layout    *layout;
    struct tsp_placement *placement;                   /* out of it; NULL: not known yet */
    uint32_t generation;                               /* rises when places change; starts at 1 */
    uint32_t steps;                                    /* spreads that have begun */
    int64_t  placing_ms, next_step_ms;                 /* the clock places go by; when it matters next */
    _Atomic bool placed;
    int64_t  split_seen_ns;                            /* when its last split was first in the table */
    unsigned split_count;
    _Atomic uint32_t too_many;                         /* partitions, for this process' room; 0: it has room */
    struct kl_bus_watch watch;
    struct dm_room rooms;
    struct dm_marks marks;
    struct kl_env_task  begin, end, flush;

    struct dm_policies *policies;                      /* that this gate goes by, held */
    uint64_t           policies_turn;
    struct dm_table   *table;
    struct dm_acked   *acked;
    uint64_t forgets;                                  /* how often what was acked counted for nothing */
    struct dm_ticket  *reading;                        /* the push being read; or NULL */
    struct dm_tenants *tenants;
    struct dm_peers   *peers;                          /* the first gate's; NULL: it is alone */
    struct dm_ha      *ha;                             /* NULL: no tenant has pairs */
    uint64_t evicted_told;
    struct dm_part    *parts[TSP_PARTITIONS_MAX];      /* made when first used */
    struct dm_batch   *live, *spare;
    size_t             spare_count;
    struct tsp_record_writer *writers[DM_SPARE_MAX];
    size_t             writer_count;

    uint64_t hits, misses;                             /* since last told to the counters */
    int64_t  active;                                   /* series, of all tenants */
    struct kl_metric *remembered_gauge, *active_gauge, *deltas_gauge;
    struct kl_labels_builder builder, aside, changed;  /* scratch of the push being read */
    struct kl_arena  relabelled;                       /* text of one series */
    struct kl_buf    canonical;
    struct tsp_text *text;
    struct tsp_influx *influx;
    struct tsp_jsonl  *jsonl;
    struct tsp_csv    *csv;
    struct kl_buf    name;                             /* a metric's, put together */
    struct kl_arena  arena;                            /* one histogram */
    struct kl_arena  symbols;                          /* of a remote write 2.0 message */
    struct kl_buf    meta, exemplar;
    struct kl_arena  shared;                           /* what the points of an OTLP scope share */
    struct kl_buf    numbers;                          /* an OTLP histogram's buckets */
    struct dm_deltas *deltas;
};

struct dm_doorman {
    struct kl_env *env;
    struct kl_bus *bus;
    struct dm_options options;
    struct dm_counters counters;
    struct kl_env_box *policies;                       /* in force; see reload.c */
    _Atomic uint64_t policies_turn;
    uint64_t live_turn;                                /* that they were made of */
    _Atomic size_t body_max;                           /* the largest of them */
    struct kl_env_listener listener;                   /* its loop is NULL without options.live */
    struct dm_shares *shares;
    _Atomic unsigned doormen;                          /* that live, this one too: they share the rates */
    _Atomic size_t record_bytes;                       /* of records closed and not settled */
    struct kl_budget inflight;                         /* bodies of pushes not yet answered */
    unsigned gate_count;
    struct dm_gate **gates;
};

/* ---- doorman.c ---- */
struct kl_metric *dm_gate_gauge(struct dm_doorman *d, unsigned gate, const char *name, const char *help);

/* ---- reload.c: policies, and others in their place while the doorman runs ---- */
void dm_reload_begin(struct dm_doorman *d);
void dm_reload_end(struct dm_doorman *d);              /* nobody asks any more */
struct dm_policies *dm_policies_look(const struct dm_doorman *d);      /* held: dm_policies_free. Any thread */
/* On a gate's loop, between two pushes: goes by those in force. A tenant whose series would be read in
 * another way is begun anew; all other series stay remembered. */
void dm_policies_take(struct dm_gate *g);

/* ---- active.c: whose series are sent, and whether one more may be ---- */
void dm_active_watch(struct dm_gate *g);               /* at its birth */
void dm_active_begin(struct dm_gate *g);               /* on its loop */
void dm_active_end(struct dm_gate *g);
/* What it has counted is as of the gate's present period; makes its share if it has none. */
void dm_active_tenant(struct dm_gate *g, struct dm_tenant *t);
/* Its number is no longer used: its series are counted no more. */
void dm_active_retire(struct dm_gate *g, struct dm_tenant *t);
/* The row, or with NULL a new one, is being sent. False: that would be one series too many. */
bool dm_active_touch(struct dm_gate *g, struct dm_tenant *t, struct dm_row *row);

/* ---- gate.c ---- */
struct dm_gate *dm_gate_new(struct dm_doorman *d, unsigned number);
void     dm_gate_free(struct dm_gate *g);
void     dm_gate_take(struct kl_env_task *task);       /* a push's task arrives */
struct dm_part *dm_gate_part(struct dm_gate *g, uint32_t number);
void     dm_gate_reread(struct dm_gate *g, struct dm_ticket *t);        /* from its beginning */
void     dm_gate_finish(struct dm_gate *g, struct dm_ticket *t);        /* it has been read, or failed */
void     dm_ticket_fail(struct dm_ticket *t, unsigned status, unsigned retry_after_s, const char *fmt,
                        ...) __attribute__((format(printf, 4, 5)));
enum kl_code dm_clock_check(const _Atomic int64_t *off_ms, struct kl_err *err);         /* doorman.c */
void     dm_ticket_release(struct dm_gate *g, struct dm_ticket *t);

/* ---- told.c: spans of pushes that are traced: `decode` of each, `append` of each record of it ---- */
void dm_told_read(struct dm_gate *g, const struct dm_ticket *t, int64_t begin_ns);
void dm_told_batch(struct dm_gate *g, const struct dm_batch *b, const struct kl_err *why);

/* ---- batch.c ---- */
/* The partition's open batch with `t` waiting for it, opened if there is none. NULL when the partition
 * has too much under way, or the push has become too much itself: then the ticket has failed. */
struct dm_batch *dm_batch_of(struct dm_gate *g, struct dm_part *p, struct dm_ticket *t);
void dm_batch_defined(struct dm_gate *g, struct dm_batch *b, struct dm_row *row);
void dm_batch_grown(struct dm_gate *g, struct dm_batch *b);    /* closes it when it is full */
void dm_batch_flush(struct kl_env_task *task);         /* linger 0: at the end of what is queued */
void dm_batches_end(struct dm_gate *g);                /* the bus is closed: gives up all that wait */
void dm_batches_free(struct dm_gate *g);

/* ---- take_*.c: reading a push into batches ---- */
void dm_take_rw1(struct dm_gate *g, struct dm_ticket *t, struct kl_span body);
void dm_take_rw2(struct dm_gate *g, struct dm_ticket *t, struct kl_span body);
void dm_take_otlp(struct dm_gate *g, struct dm_ticket *t, struct kl_span body);
void dm_take_text(struct dm_gate *g, struct dm_ticket *t, struct kl_span body, bool openmetrics);
void dm_take_influx(struct dm_gate *g, struct dm_ticket *t, struct kl_span body);
void dm_take_jsonl(struct dm_gate *g, struct dm_ticket *t, struct kl_span body);
void dm_take_csv(struct dm_gate *g, struct dm_ticket *t, struct kl_span body);
/* Counts one line, row or value that cannot be read; `words` say where and why. */
void dm_bad_line(struct dm_ticket *t, const char *words);

/* ---- series.c: one series of a push ---- */
/* Where its labels are, in the form that its sender used. */
struct dm_source {
    const struct tsp_rw1_series *rw1;                  /* or */
    const struct tsp_rw2        *rw2_in;               /* or this and the next */
    const struct tsp_rw2_series *rw2;
    struct kl_labels_builder    *pairs;                /* or as parsed from text, in any order; they stay so */
    /* Or whoever makes them from a foreign form adds them, in any order, each time they are wanted:
     * what it adds stays until the next call for a series. KL_ELIMIT: too many. */
    enum kl_code (*make)(void *ctx, struct kl_labels_builder *b, struct kl_err *err);
    void        *make_ctx;
};
struct dm_sender {
    struct kl_span tenant; uint32_t tenant_number; uint64_t tenant_hash;
    struct dm_tenant *own;
    const struct dm_limits *limits;
};
bool dm_sender_of(struct dm_gate *g, struct dm_ticket *t, struct dm_sender *s);
/* What a series of these bytes is remembered by. `format` keeps equal bytes of two formats apart. */
struct kl_fp dm_key(const struct dm_sender *s, enum dm_format format, struct kl_span raw);
struct kl_fp dm_key_of(const struct dm_sender *s, enum dm_format format, struct kl_fp hash);

struct dm_series {
    struct dm_gate *gate; struct dm_ticket *ticket; const struct dm_sender *sender;
    struct dm_source source;
    struct dm_row   *row;
    struct kl_labels labels;                           /* canonical, in the gate's scratch; {0}: not read */
    bool defined;                                      /* its definition went into a batch just now */
    bool there;                                        /* no batch: the log has this push's part of it */
    bool passed_over;                                  /* neither stored nor refused: a rule says so */
};
/* Finds or makes its row. False when it is refused: then `weight` samples are counted; or when it is
 * passed over. */
bool dm_series_find(struct dm_series *s, const struct kl_fp *key, uint64_t weight);
/* The batch that takes its samples, its definition in it where it must be. NULL: the ticket failed, or
 * `there` is set. */
struct dm_batch *dm_series_batch(struct dm_series *s);
/* Keeps those within the window, moving them to the front. `starts_ms` may be NULL; 0: not told. */
void dm_series_floats(struct dm_series *s, int64_t *times_ms, double *values, int64_t *starts_ms,
                      size_t count);
void dm_series_hist(struct dm_series *s, int64_t time_ms, int64_t start_ms, const struct kl_hist *h);
void dm_series_exemplar(struct dm_series *s, int64_t time_ms, double value,
                        struct kl_labels_builder *labels);
void dm_series_refuse(struct dm_series *s, enum dm_reason why, uint64_t count);
/* When a sample that was given before began; only its row is known by now. Where the record that held
 * the sample has been closed since, and with it a definition that is not acked, it is not told. */
void dm_series_start(struct dm_series *s, int64_t time_ms, int64_t start_ms);
void dm_metadata(struct dm_gate *g, struct dm_ticket *t, const struct dm_sender *sender,
                 struct kl_span metric, uint8_t type, struct kl_span unit, struct kl_span help);
#endif
