#ifndef KL_BUS_NATS_PRIV_H
#define KL_BUS_NATS_PRIV_H
/*
 * The insides of the bus over NATS. One loop of the env owns all state ("the loop" below): calls
 * from outside and what libnats hears are posted to it as tasks. Whatever may block runs elsewhere:
 *
 *   bulk    one thread, publishes appends, in order, on a connection that buffers
 *   fast    one thread, publishes questions, answers and acks, on connections that send at once
 *   jobs    a few threads, for requests to JetStream that wait for their answer: keys, purges
 *   looks   more of them, for those that are our own or may hang where a stream has no leader:
 *           what a stream is, consumers; so that a heartbeat never waits behind one
 *
 * Three connections, so that none waits behind another's bytes: appends and their acks; questions,
 * answers and jobs; what readers and watchers are sent.
 *
 *   bus_nats.c       opening, closing, connections and their state
 *   bus_nats_crew.c  those threads, and jobs that are tried until their time is up
 *   bus_nats_call.c  requests whose answers come to an inbox of ours
 *   bus_nats_stream.c  the streams of the log: made, asked, purged
 *   bus_nats_log.c   appends
 *   bus_nats_tap.c   a consumer that is renewed for ever: what readers and watchers drink from
 *   bus_nats_read.c  readers
 *   bus_nats_kv.c    keys
 *   bus_nats_watch.c watchers of keys
 *   bus_nats_ask.c   questions and services
 *   bus_nats_json.c  the few words of JSON in an ack, and in a server's first line
 *   bus_nats_servers.c  servers asked for their version, without the library
 */
#include <pthread.h>
#include <stdatomic.h>

#include <nats/nats.h>

#include "libkoal/bus/bus_fit_priv.h"
#include "libkoal/bus/nats_servers.h"

enum {
    KL_BUSN_JOB_THREADS = 6, KL_BUSN_LOOK_THREADS = 16,
    KL_BUSN_LOOK_MS = 1000,                            /* between looks at where a log ends */
    KL_BUSN_TRY_MS = 2000,                             /* of a look, before it is tried anew */
    KL_BUSN_TRY_FIRST_MS = 250,                        /* of the first ones for an append that waits */
    KL_BUSN_UNHEARD_MS = 1000,                         /* an append without an ack makes us look */
    KL_BUSN_JOBS_MAX = 8192,                           /* operations waiting or under way */
    KL_BUSN_CALLS_MAX = 1 << 16,                       /* appends and asks under way */
    KL_BUSN_SENT_MAX = 1024,                           /* appends sent and not yet acked, in all */
    KL_BUSN_SENT_BYTES_MAX = 16 << 20,
    KL_BUSN_TICK_MS = 20,
    KL_BUSN_AGAIN_MS = 100,                            /* before a failed job is tried again */
    KL_BUSN_HEARTBEAT_MS = 1000, KL_BUSN_SILENCE_MS = 3500,
    /* What all taps together may have been promised and not dealt with. A server drops a client
     * to which it has more than its max_pending, 64 MiB by default, to write. */
    KL_BUSN_CREDIT_BYTES_MAX = 32 << 20,
    KL_BUSN_CREDIT_BYTES_LEAST = 5 << 18, KL_BUSN_CREDIT_BYTES_MOST = 8 << 20,     /* of one */
    KL_BUSN_CREDIT_MESSAGES = 512,
    KL_BUSN_NAME_MAX = 95, KL_BUSN_CONSUMER_MAX = 63, KL_BUSN_INBOX_MAX = 63, KL_BUSN_TEXT_MAX = 255
};

#define KL_BUSN_TRACE "traceparent"                    /* the header of a traced record */

struct kl_busn;

/* ---- threads ---- */

struct kl_busn_task { struct kl_busn_task *next; void (*run)(struct kl_busn_task *t); };
struct kl_busn_crew {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct kl_busn_task *first, **last;
    bool ending;
    unsigned count;
    pthread_t threads[KL_BUSN_LOOK_THREADS];
};
void kl_busn_crew_start(struct kl_busn_crew *c, unsigned count);
void kl_busn_crew_add(struct kl_busn_crew *c, struct kl_busn_task *t);
void kl_busn_crew_end(struct kl_busn_crew *c);         /* runs what is queued, then joins */

/* ---- jobs ----
 * `run` is called on a job thread, with `wait_ms` for its requests; it returns a code and sets err.
 * KL_EAGAIN: nothing happened, try again later - until `deadline_ns`, when `over` is told
 * KL_EAGAIN. `over` is called on the loop, exactly once, and frees the job. One with a deadline of
 * INT64_MAX is our own (a tap, a service): tried for ever, and never refused.
 */
struct kl_busn_job {
    struct kl_busn *bus;
    enum kl_code (*run)(struct kl_busn_job *j, int64_t wait_ms, struct kl_err *err);
    void (*over)(struct kl_busn_job *j, enum kl_code code, struct kl_err *err);
    int64_t deadline_ns;
    bool look;                                         /* for the crew of looks */
    /* the crew's */
    struct kl_busn_task task;
    struct kl_env_task back;
    struct kl_busn_job *next;
    int64_t not_before_ns;
    enum kl_code code;
    struct kl_err err;
};
void kl_busn_job_start(struct kl_busn *b, struct kl_busn_job *j);      /* on the loop */
void kl_busn_jobs_tick(struct kl_busn *b, int64_t now_ns);
void kl_busn_jobs_cancel(struct kl_busn *b);
/* What a status of libnats means for a job: KL_EAGAIN where nothing happened. */
enum kl_code kl_busn_code(struct kl_busn *b, natsStatus s, jsErrCode e, const char *what,
                          struct kl_err *err);

/* ---- sending: a message to publish, by the bulk or the fast thread ---- */

/* Takes `msg`. `call` != 0: that call is told when it cannot be published. `reconnects`: publish
 * only on the connection that was made by that many (kl_busn_reconnects), or KL_BUSN_ANY. */
#define KL_BUSN_ANY UINT64_MAX
void kl_busn_send(struct kl_busn *b, struct kl_busn_crew *crew, natsConnection *nc, natsMsg *msg,
                  uint64_t call, uint64_t reconnects);
uint64_t kl_busn_reconnects(natsConnection *nc);

/* ---- calls: requests whose answer comes to an inbox of ours ---- */

struct kl_busn_call {
    uint32_t slot, generation;
    int64_t deadline_ns, sent_ns;
    struct kl_busn_call *next, *previous;              /* of an append: in its partition's list */
    struct kl_bus_append *append;                      /* one of these two */
    struct kl_bus_ask *ask;
    enum { KL_BUSN_WAITING, KL_BUSN_SENT, KL_BUSN_BOUNCED } state;
    bool again;                                        /* sent more than once by us */
    struct kl_err err;                                 /* why it bounced */
};
struct kl_busn_reply {                                 /* an answer, on its way to the loop */
    struct kl_env_task task;
    struct kl_busn *bus;
    uint64_t call;
    enum { KL_BUSN_NOBODY, KL_BUSN_UNSENT, KL_BUSN_ANSWER } kind;
    /* an ack */
    bool ok, duplicate;
    uint64_t seq;
    int64_t err_code;
    char text[KL_BUSN_TEXT_MAX + 1];
    /* an answer */
    enum kl_code code;
    void *bytes;
    size_t size;
};
/* A slot for a call; 0 when there are too many. The number is what its inbox's subject ends in. */
uint64_t kl_busn_call_open(struct kl_busn *b, struct kl_busn_call *c);
void kl_busn_call_close(struct kl_busn *b, struct kl_busn_call *c);
struct kl_busn_call *kl_busn_call_find(struct kl_busn *b, uint64_t call);

/* On threads of libnats, `closure` is the bus. */
void kl_busn_on_ack(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure);
void kl_busn_on_answer(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure);

/* ---- acks: bus_nats_json.c ---- */

/* Fills r->ok, duplicate, seq, err_code, text from a publish's ack; false: it is none. */
bool kl_busn_ack_parse(const char *at, size_t size, struct kl_busn_reply *r);

/* The version out of a server's first line; false: it is none, or does not tell it. */
bool kl_busn_info_version(const char *at, size_t size, char version[KL_BUS_VERSION_MAX + 1]);

/* ---- streams ---- */

#define KL_BUSN_ID "Koa-Id"                            /* of a record, in a stream with replicas */

/* leader: a hash of its name, 0: it has none to tell. */
struct kl_busn_state { uint64_t incarnation, first_seq, last_seq, size_bytes, replicas, leader; };
/* On a job thread: the stream of a partition, made where there is none. */
enum kl_code kl_busn_stream(struct kl_busn *b, uint32_t partition, int64_t wait_ms,
                            struct kl_busn_state *state, struct kl_err *err);
/* How long to wait for an answer, after so many that did not come. */
int64_t kl_busn_look_ms(struct kl_busn *b, unsigned unanswered);
void kl_busn_log_subject(const struct kl_busn *b, uint32_t partition,
                         char subject[KL_BUSN_NAME_MAX + 1]);
void kl_busn_stream_name(const struct kl_busn *b, uint32_t partition,
                         char name[KL_BUSN_NAME_MAX + 1]);

struct kl_busn_partition {
    enum { KL_BUSN_UNKNOWN, KL_BUSN_CHECKING, KL_BUSN_READY } state;
    uint64_t incarnation, last_acked, leader;
    unsigned unanswered;                               /* looks, one after another */
    int64_t looked_ns;                                 /* last, for want of acks */
    struct kl_busn_call *waiting, *last_waiting;       /* in order */
    struct kl_busn_call *sent, *last_sent;             /* in order; acks resolve them */
    struct kl_busn_call *held;                         /* acked, but by which incarnation? */
    atomic_bool known;                                 /* its stream has been seen; any thread */
    _Atomic int64_t missing_ns;                        /* since when it is not there; any thread */
    _Atomic uint64_t seen, odd;                        /* its creation as believed; another, doubted */
    _Atomic int64_t odd_ns;                            /* since when; any thread */
    atomic_bool making;                                /* a thread of ours is at it */
    uint64_t maker; int64_t maker_ns;                  /* its: whose turn to make it, and since when */
};
void kl_busn_append(struct kl_bus *bus, struct kl_bus_append *op);
void kl_busn_info(struct kl_bus *bus, struct kl_bus_info *op);
void kl_busn_purge(struct kl_bus *bus, struct kl_bus_purge *op);
void kl_busn_append_reply(struct kl_busn *b, struct kl_busn_call *c, struct kl_busn_reply *r);
void kl_busn_log_up(struct kl_busn *b);                /* the bulk connection is up again */
void kl_busn_log_tick(struct kl_busn *b, int64_t now_ns);
void kl_busn_log_cancel(struct kl_busn *b);

/* ---- taps ---- */

struct kl_busn_drop {                                  /* a message, on its way to the loop */
    struct kl_env_task task;
    struct kl_busn *bus;
    struct kl_busn_tap *tap;                           /* found on the loop */
    struct kl_busn_drop *next;
    char consumer[KL_BUSN_CONSUMER_MAX + 1];           /* whose: a record */
    uint64_t number, epoch, request;                   /* whose: a status */
    natsMsg *msg;
    size_t size;
    uint64_t seq, pending;
    int64_t time_ms;
    bool repeat;
    enum { KL_BUSN_RECORD, KL_BUSN_HEARTBEAT, KL_BUSN_SPENT, KL_BUSN_ODD } kind;
};
struct kl_busn_tap {
    _Atomic unsigned refs;
    struct kl_busn *bus;
    struct kl_busn_tap *next, **at;                    /* in the bus's list */
    char stream[KL_BUSN_NAME_MAX + 1];
    char filter[KL_BUSN_NAME_MAX + 1];                 /* with start_seq 0 */
    uint64_t start_seq;                                /* 0: the last of each subject */
    uint64_t number;                                   /* in its inboxes' names */
    bool attaching, again, running, closed;
    uint64_t epoch;                                    /* of its consumer: older drops are stale */
    char consumer[KL_BUSN_CONSUMER_MAX + 1];           /* its name; each epoch's is another */
    uint64_t request;                                  /* the last one; older ones' are stale */
    bool asked;                                        /* it is open: not all of it has come */
    unsigned asked_left;                               /* messages that it may still bring */
    size_t held_bytes;                                 /* brought, and not dealt with */
    int64_t heard_ns;
    /* On a job thread: may the stream be read from start_seq? Fills what `attached` wants. */
    enum kl_code (*check)(struct kl_busn_tap *t, int64_t wait_ms, bool *may, struct kl_err *err);
    /* On the loop. `may` as check said: if not, the tap stays shut. */
    void (*attached)(struct kl_busn_tap *t, bool may, uint64_t pending);
    void (*drop)(struct kl_busn_tap *t, struct kl_busn_drop *d);       /* takes d */
    void (*free)(struct kl_busn_tap *t);
    void (*tick)(struct kl_busn_tap *t, int64_t now_ns);               /* while it runs; or NULL */
    /* bus_nats_deliver.c: what was put goes to `loop` as it is sent, one batch at a time. */
    struct kl_env_loop *loop;                          /* of who reads */
    void (*tell)(struct kl_busn_tap *t);               /* there: of `batch` */
    void (*pump)(struct kl_busn_tap *t);               /* back again: more may be sent */
    struct kl_env_task open, close, delivery;
    struct kl_busn_drop *first, **last, *batch;        /* put, not sent; sent, not back */
    bool away, gone;                                   /* a batch is; `loop` wants no more: its own */
};
/* Entered, and leaves; opens soon. `own` is the reader's: it has t until _end, on `loop`, where nothing is told any more,
 * and which closes soon. An `own` that has nothing is fine. */
void kl_busn_tap_begin(struct kl_busn *b, struct kl_busn_tap *t, struct kl_env_loop *loop, void **own);
void kl_busn_tap_end(void **own);
bool kl_busn_tap_may_send(const struct kl_busn_tap *t);
void kl_busn_tap_put(struct kl_busn_tap *t, struct kl_busn_drop *d);   /* takes d */
void kl_busn_tap_send(struct kl_busn_tap *t);          /* may be of nothing; it may */
bool kl_busn_tap_hears(const struct kl_busn_tap *t);   /* in `tell`, before each call of theirs */
void kl_busn_tap_open(struct kl_busn *b, struct kl_busn_tap *t);       /* on the loop */
void kl_busn_tap_renew(struct kl_busn_tap *t);         /* from start_seq, which the owner sets */
void kl_busn_tap_close(struct kl_busn_tap *t);         /* cancels, gives its reference away */
void kl_busn_tap_ref(struct kl_busn_tap *t);
void kl_busn_tap_unref(struct kl_busn_tap *t);
/* On the loop: frees a list that is dealt with, and asks for more. NULL is a list. */
void kl_busn_tap_done(struct kl_busn_tap *t, struct kl_busn_drop *d);
void kl_busn_drops_free(struct kl_busn_drop *d);       /* a list, any thread */
/* On a thread of libnats, `closure` is the bus: whatever comes to an inbox of a tap. */
void kl_busn_on_drop(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure);
void kl_busn_taps_up(struct kl_busn *b);
void kl_busn_taps_tick(struct kl_busn *b, int64_t now_ns);

/* Ends a subscription of ours. It is freed with the bus: libnats 3.4 may still be looking at it
 * when a message for it arrives just now. */
void kl_busn_unsubscribe(struct kl_busn *b, natsSubscription *sub);
void kl_busn_subscriptions_free(struct kl_busn *b);

/* ---- readers, keys, questions ---- */

void kl_busn_read_open(struct kl_bus *bus, struct kl_bus_reader *r);
void kl_busn_read_close(struct kl_bus *bus, struct kl_bus_reader *r);
#define KL_BUSN_REVISION "Koa-Revision"                /* "<revision> <who>.<how many before>" */
void     kl_busn_bucket_name(const struct kl_busn *b, char name[KL_BUSN_NAME_MAX + 1]);
enum kl_code kl_busn_bucket(struct kl_busn *b, struct kl_err *err);    /* on a job thread: it is there */
bool     kl_busn_is_marker(natsMsg *msg);
uint64_t kl_busn_revision(natsMsg *msg, uint64_t seq);  /* of a message without one: its sequence */
void kl_busn_kv(struct kl_bus *bus, struct kl_bus_kv *op);
/* The operation itself, on a job thread; op->done is not called. */
enum kl_code kl_busn_kv_now(struct kl_busn *b, struct kl_bus_kv *op, int64_t wait_ms,
                            struct kl_err *err);
void kl_busn_watch(struct kl_bus *bus, struct kl_bus_watch *w);
void kl_busn_unwatch(struct kl_bus *bus, struct kl_bus_watch *w);
void kl_busn_ask(struct kl_bus *bus, struct kl_bus_ask *op);
void kl_busn_serve(struct kl_bus *bus, struct kl_bus_service *s);
void kl_busn_unserve(struct kl_bus *bus, struct kl_bus_service *s);
void kl_busn_answer(struct kl_bus *bus, struct kl_bus_question *q, enum kl_code code,
                    struct kl_span bytes);
const char *kl_busn_header(struct kl_bus *bus, struct kl_bus_question *q, const char *name);
void kl_busn_ask_reply(struct kl_busn *b, struct kl_busn_call *c, struct kl_busn_reply *r);
void kl_busn_asks_tick(struct kl_busn *b, int64_t now_ns);
void kl_busn_asks_cancel(struct kl_busn *b);
/* Before `closed`, on the thread that closes: who has asked our services is told, within a second
 * or so. Over NATS an asker sees nothing of a server that goes, and waits until its time is up. */
void kl_busn_farewell(struct kl_busn *b);
void kl_busn_hosts_free(struct kl_busn *b);

/* ---- the bus ---- */

enum { KL_BUSN_BULK, KL_BUSN_FAST, KL_BUSN_READ, KL_BUSN_CONNECTIONS };
struct kl_busn_connection { struct kl_busn *bus; natsConnection *nc; atomic_bool up, closed; };

struct kl_busn {
    struct kl_bus bus;
    struct kl_env *env;
    struct kl_log *log;
    struct kl_bus_nats_options options;
    char url[KL_BUSN_TEXT_MAX + 1];                    /* for sentences: without secrets */
    char cell[33];
    char inbox[KL_BUSN_INBOX_MAX + 1];                 /* the answers' subject, up to the call */
    struct kl_busn_connection connections[KL_BUSN_CONNECTIONS];
    jsCtx *js;                                         /* on the fast connection */
    natsSubscription *replies[KL_BUSN_CONNECTIONS];    /* acks, answers, what taps are sent */
    struct kl_busn_parting *parted;                    /* subscriptions ended; the fast crew's */
    struct kl_busn_crew bulk, fast, jobs, looks;
    struct kl_env_loop *loop;
    struct kl_env_timer tick;
    struct kl_env_task begin, quiet, end;
    _Atomic uint64_t stamps;                           /* of changes of keys, by this bus */
    pthread_mutex_t create_lock;                       /* one key is made at a time; guards: */
    uint64_t creating;                                 /* somebody else's turn, as last seen */
    int64_t creating_ns;                               /* since when */
    atomic_bool is_quiet;                              /* the loop has seen `closed` */
    _Atomic unsigned entered;
    atomic_bool leaving;                               /* questions are refused; then: */
    atomic_bool closed, denied;                        /* denied: for want of the right credentials */
    _Atomic unsigned questions;                        /* with services, not yet answered */
    _Atomic int callbacks;                             /* subscriptions libnats may call for */
    pthread_mutex_t trouble_lock;
    struct kl_err trouble;                             /* why the last one failed, or code 0 */
    int64_t trouble_ns;                                /* and when */
    /* the loop's */
    struct kl_busn_partition *partitions;
    struct kl_busn_call **calls;                       /* by slot */
    uint32_t *generations, *spare;                     /* spare: unused slots, a stack */
    uint32_t spare_count, calls_room;
    uint64_t bulk_reconnects;                          /* of the connection appends are sent on */
    size_t sent_count, sent_bytes;
    bool starved;                                      /* an append waits for others' acks */
    struct kl_busn_job *waiting_jobs, **last_waiting;  /* not with the crew at the moment */
    unsigned job_count;
    struct kl_busn_host *hosts;
    struct kl_busn_tap *taps;
    uint64_t tap_number;                               /* of the last one opened */
    unsigned tap_count;
    atomic_bool bucket_ready;
    _Atomic unsigned look_ms;                          /* what looks took lately, the slow ones */
    struct kl_metric *appended_records, *appended_bytes, *duplicates, *refused, *reconnects;
    struct kl_metric unseen;
};
static inline struct kl_busn *kl_busn(struct kl_bus *b) { return (struct kl_busn *)b; }

bool kl_busn_enter(struct kl_busn *b);
void kl_busn_leave(struct kl_busn *b);
static inline void kl_busn_post(struct kl_busn *b, struct kl_env_loop *loop,
                                struct kl_env_task *task)
{
    b->env->sched->post(loop, task);
}
static inline int64_t kl_busn_deadline(struct kl_busn *b, int64_t ms)
{
    return kl_env_mono_ns(b->env) + ms * 1000000;
}
enum kl_code kl_busn_canceled(struct kl_err *err);
/* An operation, from whatever thread, to the bus's loop: `run` has it there. KL_ECANCELED: closed. */
enum kl_code kl_busn_hand(struct kl_busn *b, struct kl_env_task *task,
                          void (*run)(struct kl_env_task *task), struct kl_err *err);
void kl_busn_trouble(struct kl_busn *b, const struct kl_err *err);     /* code 0: none any more */
enum kl_code kl_busn_unreachable(struct kl_busn *b, struct kl_err *err);       /* KL_EAGAIN */
static inline bool kl_busn_up(struct kl_busn *b, int connection)
{
    return atomic_load(&b->connections[connection].up);
}
natsConnection *kl_busn_nc(struct kl_busn *b, int connection);
/* The subscription is counted until libnats promises to call no more. */
natsStatus kl_busn_subscribe(struct kl_busn *b, natsSubscription **sub, int connection,
                             const char *subject, const char *queue, natsMsgHandler handler,
                             void *closure, void (*complete)(void *closure));
#endif
