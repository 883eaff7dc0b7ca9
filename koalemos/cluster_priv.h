#ifndef KOALEMOS_CLUSTER_PRIV_H
#define KOALEMOS_CLUSTER_PRIV_H
/* What the verbs of `koalemos cluster` share. One thread, that of main; every call waits. */
#include "doorman/coordinator.h"
#include "libkoal/app/app.h"

enum { CLUSTER_NAMES_MAX = TSP_NODES_MAX };

struct cluster {
    struct kl_app      *app;
    struct kl_bus      *bus;
    struct kl_env_loop *loop;
    struct kl_app_wait *wait;
    /* What stood among the flags and is none of a service's. */
    const char         *names[CLUSTER_NAMES_MAX];      /* into argv, or into a text that lives as long */
    unsigned            name_count;
    const char         *prefix;                        /* keep; or NULL */
    int64_t             wait_ms;
    bool                undo;
};
int cluster_fail(const char *what, const struct kl_err *err);
/* A coordinator that only looks. Who lives is seen by a heartbeat that comes: two of them pass once NATS was reached,
 * or as long without, or wait_ms, if that is less. */
struct dm_coordinator *cluster_looker(struct cluster *c);

/* cluster_drain.c. Each closes the bus, and gives the exit status. */
int cluster_drain(struct cluster *c);
int cluster_remove(struct cluster *c);
int cluster_keep(struct cluster *c);
int cluster_leave(struct cluster *c);
/* cluster_repair.c, likewise. */
int cluster_repair(struct cluster *c);
#endif
