#ifndef KL_BUS_H
#define KL_BUS_H
/*
 * The bus: a replicated log, request/reply, and a small key-value store for coordination. Handed
 * in. `bus_local` keeps a log in a folder and the rest in memory (KV in a file) for one process;
 * `bus_nats` is JetStream. One test suite runs over both (tests/unit/libkoal/bus).
 *
 * Every call is an operation: a struct in the caller's storage, kept alive and untouched until its
 * `done` runs on `loop`. done always runs, exactly once, also when the bus is closed (KL_ECANCELED)
 * or out of reach (KL_EAGAIN, with words). No call blocks.
 *
 * THE LOG. Partition p is an ordered sequence of records, numbered from 1 without gaps.
 *  - append: KL_OK means durable as the log is configured (local: fsync, or interval; NATS: by the
 *    stream's replicas). Appends of one partition issued from one loop land in the order issued,
 *    unless one fails. KL_ETIMEOUT or KL_EAGAIN: it may or may not have landed: repeat it under the
 *    same id. `id` makes a repeat within two minutes harmless: then KL_OK, `duplicate` true, seq of
 *    the first; or it is a record of its own, and readers are told that it is a repeat. KL_ELIMIT: the log is full (discard new), or the record too large.
 *  - incarnation: a stream's creation (nanoseconds since the epoch). It changes only when a stream
 *    was deleted and made anew; with it, sequences start over at 1.
 *  - read: from exactly `from_seq`; records come in order, one call each, on the reader's loop, and
 *    then wait for more. `first` > from_seq (purged) or a changed incarnation come as an event,
 *    never as silently missing records. A bounded number of bytes is read ahead.
 * REQUEST/REPLY. One answer, up to KL_BUS_MESSAGE_MAX bytes; more is fetched page by page. No one
 * serving, or overloaded: KL_EAGAIN at once or KL_ETIMEOUT.
 * KV. Keys [A-Za-z0-9_.=-]+ up to 200 bytes, each dot between two others; values up to 64 KiB. Every key has a revision, rising
 * with each change in the whole store. put with `expect` is compare-and-set: 0 means "must be
 * absent", UINT64_MAX "whatever"; a lost race is KL_EEXIST.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"
#include "libkoal/base/log.h"
#include "libkoal/base/mem.h"
#include "libkoal/base/metrics.h"
#include "libkoal/base/trace.h"
#include "libkoal/env/dir.h"
#include "libkoal/env/env.h"

enum { KL_BUS_MESSAGE_MAX = 960 * 1024 };              /* below NATS' max_payload of 1 MiB */
enum { KL_BUS_ID_MAX = 47, KL_BUS_SUBJECT_MAX = 127, KL_BUS_KEY_MAX = 200 };
enum { KL_BUS_VALUE_MAX = 64 * 1024, KL_BUS_PARTITIONS_MAX = 4096 };

struct kl_bus;

struct kl_bus_append {
    /* in */
    uint32_t partition;
    struct kl_span record;                             /* 1..KL_BUS_MESSAGE_MAX; kept until done */
    char id[KL_BUS_ID_MAX + 1];                        /* unique a record; "" : no de-duplication */
    struct kl_trace trace;                             /* on: goes along, where the bus can (NATS) */
    struct kl_env_loop *loop;
    void (*done)(struct kl_bus_append *op);
    /* out */
    enum kl_code code;
    struct kl_err err;
    uint64_t seq, incarnation;
    bool duplicate;
    /* the bus's */
    struct kl_env_task task;
    struct kl_bus_append *next;
    void *own;
};

struct kl_bus_info {                                   /* what a partition's log holds */
    uint32_t partition;
    struct kl_env_loop *loop;
    void (*done)(struct kl_bus_info *op);
    enum kl_code code;
    struct kl_err err;
    uint64_t incarnation, first_seq, last_seq;         /* empty: first = last + 1 */
    uint64_t size_bytes;
    struct kl_env_task task;
    void *own;
};

/* behind: how many records the log held behind this one when it was read. repeat: of a log that keeps
 * repeats (see bus_nats): one under the same id was read in the two minutes of the log before; it
 * counts as a record, and as nothing else. */
struct kl_bus_record {
    uint64_t seq, incarnation, behind;
    int64_t time_ms;
    struct kl_span bytes;
    bool repeat;
    struct kl_trace trace;                             /* its append's, where that went along */
};
struct kl_bus_reader {                                 /* in the reader's storage until closed */
    uint32_t partition;
    uint64_t from_seq;
    struct kl_env_loop *loop;
    /* One record; its bytes are borrowed during the call. */
    void (*record)(struct kl_bus_reader *r, const struct kl_bus_record *rec);
    /* All that the log held when asked has been delivered, up to last_seq; again after each time
     * that it had fallen behind. Also right after the start on an empty log. */
    void (*caught_up)(struct kl_bus_reader *r, uint64_t last_seq);
    /* Reading cannot go on as asked. code KL_ENOENT: records from from_seq to first_seq-1 were
     * purged; KL_ECORRUPT: gap, rollback, foreign incarnation or a damaged record at `seq`. The
     * reader is stopped; close it, and open one anew when it is known from where.
     * Mere disconnection is no event: it reconnects and goes on. */
    void (*broken)(struct kl_bus_reader *r, enum kl_code code, uint64_t incarnation,
                   uint64_t first_seq, const struct kl_err *err);
    /* NULL, or told each second or so while the log is in reach: it ended at last_seq at a moment
     * not before asked_ns (monotonic). Who has applied that much knows all that was acked before
     * asked_ns; who is not told, does not. Only where bus->end is NULL, else that tells better. */
    void (*end)(struct kl_bus_reader *r, uint64_t last_seq, int64_t asked_ns);
    void *ctx;
    void *own;
};

struct kl_bus_purge {                                  /* forget records with seq <= up_to */
    uint32_t partition; uint64_t up_to;
    struct kl_env_loop *loop;
    void (*done)(struct kl_bus_purge *op);
    enum kl_code code; struct kl_err err;
    struct kl_env_task task; void *own;
};

struct kl_bus_ask {                                    /* a request */
    char subject[KL_BUS_SUBJECT_MAX + 1];
    struct kl_span question;                           /* kept until done */
    int64_t timeout_ms;
    struct kl_env_loop *loop;
    void (*done)(struct kl_bus_ask *op);
    enum kl_code code;
    struct kl_err err;
    void *answer;                                      /* malloc'ed, the asker's after done */
    size_t answer_size;
    struct kl_env_task task; void *own;
};

struct kl_bus_question {                               /* a request, seen by who serves it */
    struct kl_span bytes;                              /* valid until answered */
    const char *subject;                               /* of a plain service: what `.>` stands for */
    void *own;
};
struct kl_bus_service {                                /* in the server's storage until stopped */
    char subject[KL_BUS_SUBJECT_MAX + 1];
    struct kl_env_loop *loop;
    /* Answer now or later, exactly once, from any thread, with kl_bus_answer. */
    void (*question)(struct kl_bus_service *s, struct kl_bus_question *q);
    /* Over NATS: a service for whoever speaks NATS, not for `ask`. Its subject may end in ".>"; a
     * question may have headers, and want no answer; an answer goes as it is, whatever its code, and
     * `refusal` to those that cannot be served: too many or too large for all of them, or at the end.
     * The local bus takes no such service. */
    bool plain;
    const char *refusal;
    void *ctx; void *own;
};

enum kl_bus_kv_kind { KL_BUS_KV_GET, KL_BUS_KV_PUT, KL_BUS_KV_DELETE };
struct kl_bus_kv {
    enum kl_bus_kv_kind kind;
    char key[KL_BUS_KEY_MAX + 1];
    struct kl_span value;                              /* PUT: in; kept until done */
    uint64_t expect;                                   /* PUT, DELETE; see above */
    struct kl_env_loop *loop;
    void (*done)(struct kl_bus_kv *op);
    enum kl_code code;                                 /* GET: KL_ENOENT without the key */
    struct kl_err err;
    void *got; size_t got_size;                        /* GET: malloc'ed, the caller's */
    uint64_t revision;                                 /* GET: of the key; PUT: the new one */
    struct kl_env_task task; void *own;
};
struct kl_bus_watch {                                  /* all keys with `prefix`, then changes */
    char prefix[KL_BUS_KEY_MAX + 1];
    struct kl_env_loop *loop;
    /* value.at NULL: deleted. Every key's present state once at the start, then `current`, then
     * every change in order; after a reconnection states may repeat, but no older one. */
    void (*change)(struct kl_bus_watch *w, const char *key, struct kl_span value,
                   uint64_t revision);
    void (*current)(struct kl_bus_watch *w);
    void *ctx; void *own;
};

struct kl_bus {
    void (*append)(struct kl_bus *b, struct kl_bus_append *op);
    void (*info)(struct kl_bus *b, struct kl_bus_info *op);
    /* last_seq as an info would have it now, where that is known at once; false: ask for an info.
     * Any thread. NULL: never known. */
    bool (*end)(struct kl_bus *b, uint32_t partition, uint64_t *last_seq);
    void (*read_open)(struct kl_bus *b, struct kl_bus_reader *r);
    void (*read_close)(struct kl_bus *b, struct kl_bus_reader *r);  /* on its loop: no call after */
    void (*purge)(struct kl_bus *b, struct kl_bus_purge *op);
    void (*ask)(struct kl_bus *b, struct kl_bus_ask *op);
    void (*serve)(struct kl_bus *b, struct kl_bus_service *s);
    void (*unserve)(struct kl_bus *b, struct kl_bus_service *s);    /* on its loop: no call after */
    void (*answer)(struct kl_bus *b, struct kl_bus_question *q, enum kl_code code,
                   struct kl_span bytes);  /* code != KL_OK: bytes are the sentence, for op->err */
    /* The same, KL_OK, with bytes that the asker gets as they are, being in this process. NULL: it
     * never is; kl_bus_answer_take does either. */
    void (*answer_take)(struct kl_bus *b, struct kl_bus_question *q, struct kl_buf *bytes_take);
    /* A header of a plain service's question, or NULL; on the service's loop, until answered. */
    const char *(*header)(struct kl_bus *b, struct kl_bus_question *q, const char *name);
    void (*kv)(struct kl_bus *b, struct kl_bus_kv *op);
    void (*watch)(struct kl_bus *b, struct kl_bus_watch *w);
    void (*unwatch)(struct kl_bus *b, struct kl_bus_watch *w);
    /* Is the bus in reach? False fills err with the words for /-/ready. Any thread. */
    bool (*healthy)(struct kl_bus *b, struct kl_err *err);
    /* The end comes in three steps: close; the services stop and free their loops; free.
     * close: every op under way completes with KL_ECANCELED, readers, services and watches fall
     * silent, later ops complete at once with KL_ECANCELED. The callers' loops are alive until then
     * and drain those completions when they are freed. read_close, unserve, unwatch and answer
     * may still be called after close, and do no more than let go. Over NATS close first refuses
     * what is asked of our services, and gives them up to a second for what they hold already. */
    void (*close)(struct kl_bus *b);
    void (*free)(struct kl_bus *b);
    struct kl_env *env;
};
static inline void kl_bus_answer_take(struct kl_bus *b, struct kl_bus_question *q,
                                      struct kl_buf *bytes_take)
{
    if (b->answer_take != NULL) {
        b->answer_take(b, q, bytes_take);
        return;
    }
    b->answer(b, q, KL_OK, kl_buf_span(bytes_take));
    kl_buf_deinit(bytes_take);
}

/*
 * The local bus. The log lies in `dir`/log/: segments shared by all partitions. One group commit at
 * a time: what arrived while the last one synced goes with the next. Recovery truncates nothing
 * that was acked: a torn tail of the newest segment ends there; damage before a valid record is
 * KL_ECORRUPT and named. fsync_ms 0: an ack means synced; else: acked when written, synced at least
 * that often (a killed process loses nothing, a power cut up to fsync_ms).
 * `dir` stays the caller's and outlives the bus. A failed sync is final: every later append fails.
 */
struct kl_bus_local_options {
    uint32_t partitions;
    int64_t  fsync_ms;
    uint64_t segment_bytes;                            /* a segment ends past this; 0: 64 MiB */
    uint64_t log_bytes_max;                            /* discard new past this; 0: no bound */
    struct kl_log *log;
    struct kl_metrics *metrics;                        /* may be NULL */
};
enum kl_code kl_bus_local_open(struct kl_env *env, struct kl_env_dir *dir,
                               const struct kl_bus_local_options *options, struct kl_bus **bus,
                               struct kl_err *err);

/*
 * JetStream. Connects in the background and for ever: opening succeeds without a server; operations
 * wait a bounded time and then fail with KL_EAGAIN and words. Streams and the KV bucket are made
 * when absent (`create`), else only used.
 */
struct kl_bus_nats_options {
    const char *url;                                   /* "nats://127.0.0.1:4222,nats://..." */
    const char *cell;                                  /* [a-z0-9]+, in every subject and name */
    const char *credentials_file, *ca_file, *cert_file, *key_file;  /* NULL: none */
    const char *nkey_file, *nkey_public;               /* a seed, and the key that belongs to it; NULL: none */
    const char *user, *password_file;                  /* NULL: none */
    const char *service;                               /* [a-z]+; answers come below _INBOX.<service>, so that
                                                          NATS may let nobody else hear them. NULL: "koa" */
    uint32_t partitions, log_replicas;
    uint64_t stream_bytes_max;
    bool create;
    bool traces;                                       /* readers look for traces of records */
    int64_t op_timeout_ms;                             /* 0: 5000 */
    struct kl_log *log;
    struct kl_metrics *metrics;
};
enum kl_code kl_bus_nats_open(struct kl_env *env, const struct kl_bus_nats_options *options,
                              struct kl_bus **bus, struct kl_err *err);
#endif
