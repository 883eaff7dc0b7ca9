#ifndef KL_BUS_SIM_PRIV_H
#define KL_BUS_SIM_PRIV_H
/*
 * Between bus_sim.c (pipes, calls, clients), bus_sim_log.c (appends, readers), bus_sim_kv.c and
 * bus_sim_ask.c. All of it runs on the servers' loop, but for the bus's own functions, which a caller's
 * loop runs, and the callbacks; one thread in any case.
 *
 * A call is what the bus keeps of an operation: it lives until it is settled, which is when the caller's
 * operation is no longer touched, and until no message is about it any more.
 */
#include "libkoal/bus/bus_sim.h"

struct kl_bsim_pipe;
struct kl_bsim_message {
    struct kl_bsim_message *next;
    int64_t due_ns;
    void (*arrive)(struct kl_bsim_message *m);         /* owns m */
    void (*lost)(struct kl_bsim_message *m);           /* instead; owns m */
};
struct kl_bsim_pipe {
    struct kl_bus_sim *sim;
    struct kl_bsim_message *first, *last;
    struct kl_env_timer timer;
    struct kl_env_task wake;
};

enum kl_bsim_kind { KL_BSIM_APPEND, KL_BSIM_INFO, KL_BSIM_PURGE, KL_BSIM_ASK, KL_BSIM_KV };
struct kl_bsim_call {
    struct kl_bsim_message up, down;                   /* the request, and its answer */
    struct kl_bsim_client *client;
    struct kl_bsim_call *next;                         /* of the client's that are not settled */
    enum kl_bsim_kind kind;
    void *op;                                          /* NULL: settled */
    unsigned refs;
    int64_t until_ns;
    uint32_t partition;
    char *bytes; size_t size;                          /* the record, the question, the value */
    char name[KL_BUS_KEY_MAX + 1];                     /* id, subject, key */
    enum kl_bus_kv_kind kv_kind;
    uint64_t number;                                   /* up_to, expect */
    /* the answer */
    enum kl_code code;
    struct kl_err err;
    uint64_t seq, first, incarnation, stored;
    bool duplicate;
    void *got; size_t got_size;
};

struct kl_bsim_record { struct kl_bsim_record *next; uint64_t seq; int64_t time_ms; char id[KL_BUS_ID_MAX + 1];
                        size_t size; char bytes[]; };
struct kl_bsim_stream {
    uint64_t incarnation, first, last, size_bytes;     /* empty: first = last + 1 */
    struct kl_bsim_record *oldest, *newest;
};
struct kl_bsim_key { char *key; void *value; size_t size; uint64_t revision; bool there; };

struct kl_bsim_reader {                                /* an open kl_bus_reader */
    struct kl_bsim_reader *next;
    struct kl_bsim_client *client;
    struct kl_bus_reader *r;                           /* NULL: closed */
    unsigned refs, under_way;
    uint64_t incarnation, to_send, delivered;          /* the next one; the last that was told */
    bool stopped, said_end;
};
struct kl_bsim_watch {
    struct kl_bsim_watch *next;
    struct kl_bsim_client *client;
    struct kl_bus_watch *w;                            /* NULL: ended */
    unsigned refs;
    char prefix[KL_BUS_KEY_MAX + 1];
    bool current;                                      /* was said */
};
struct kl_bsim_service {
    struct kl_bsim_service *next;
    struct kl_bsim_client *client;
    struct kl_bus_service *s;                          /* NULL: ended */
    unsigned refs;
};

struct kl_bsim_client {
    struct kl_bus bus;
    struct kl_bus_sim *sim;
    struct kl_bsim_client *next;
    struct kl_bsim_pipe up, down;
    bool cut, gone, closed;
    struct kl_bsim_call *calls;
    struct kl_bsim_reader *readers;
    struct kl_bsim_watch *watches;
    struct kl_bsim_service *services;
};
struct kl_bus_sim {
    struct kl_env *env;
    struct kl_env_loop *loop;
    struct kl_env_timer tick;
    struct kl_env_task begin, pump;
    struct kl_bus_sim_weather weather;
    unsigned ticks;
    uint64_t draws;
    uint32_t partitions;
    struct kl_bsim_stream *streams;
    struct kl_bsim_key *keys; size_t key_count;
    uint64_t revision;
    struct kl_bsim_client *clients;
    bool freeing;
};

uint64_t kl_bsim_draw(struct kl_bus_sim *s);
struct kl_bsim_client *kl_bsim_client_of(struct kl_bus *b);
/* false: may not be lost. */
void kl_bsim_send(struct kl_bsim_pipe *p, struct kl_bsim_message *m, bool losable);

/* A call of this operation, which is under way from here on. NULL: the client is closed, and the operation
 * has been completed. `arrive` runs at the servers, and ends in kl_bsim_reply or lets go. */
struct kl_bsim_call *kl_bsim_call(struct kl_bus *b, enum kl_bsim_kind kind, void *op, int64_t timeout_ms,
                                  struct kl_span bytes, void (*arrive)(struct kl_bsim_call *call));
void kl_bsim_reply(struct kl_bsim_call *call, enum kl_code code);
void kl_bsim_unref(struct kl_bsim_call *call);

void kl_bsim_log_ops(struct kl_bus *b);
void kl_bsim_kv_ops(struct kl_bus *b);
void kl_bsim_ask_ops(struct kl_bus *b);
/* Readers and watches of a client whose connection is back; those of one that is gone. */
void kl_bsim_tell_ends(struct kl_bsim_client *c);
void kl_bsim_readers_again(struct kl_bsim_client *c);
void kl_bsim_watches_again(struct kl_bsim_client *c);
void kl_bsim_pump(struct kl_bus_sim *s);               /* gives readers what they have room for */
void kl_bsim_log_free(struct kl_bus_sim *s);
void kl_bsim_kv_free(struct kl_bus_sim *s);
#endif
