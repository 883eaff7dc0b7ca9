#ifndef KL_BUS_SIM_H
#define KL_BUS_SIM_H
/*
 * The simulated bus: JetStream as its contract has it (bus.h), and a network that is worse. The servers
 * hold the log, the keys and who serves what; each process of a simulation has a client, between them two
 * pipes, one each way, which keep their order as a TCP connection does:
 *
 *   delay       each message takes a while, now and then a long one
 *   loss        a request or its answer may vanish: the caller hears KL_ETIMEOUT, whether it landed or not;
 *               it may also land after that
 *   cut         nothing comes through either way, what is on its way is gone; afterwards readers go on
 *               where they were, and watches tell all keys again
 *
 * The servers lose nothing that they took: what becomes of a log that goes back or is made anew is told
 * with kl_bus_sim_recreate. All choices come from the seed. Everything is on the simulation's one thread.
 */
#include "libkoal/bus/bus.h"

struct kl_bus_sim;
struct kl_bus_sim_weather {
    unsigned lose, slow;                               /* of a thousand messages */
    int64_t  slow_ms;                                  /* at most, for a slow one */
};

/* `servers` is a process of the simulation that is not killed before kl_bus_sim_free. */
struct kl_bus_sim *kl_bus_sim_new(struct kl_env *servers, uint32_t partitions, uint64_t seed);
void kl_bus_sim_free(struct kl_bus_sim *s);            /* with all clients */
void kl_bus_sim_weather(struct kl_bus_sim *s, const struct kl_bus_sim_weather *w);
/* A client; closed and freed as any bus is. */
struct kl_bus *kl_bus_sim_client(struct kl_bus_sim *s, struct kl_env *process);
/* Its process was killed: what it served and watched goes, nothing is told to it. It is freed with the
 * servers. */
void kl_bus_sim_gone(struct kl_bus *client);
void kl_bus_sim_cut(struct kl_bus *client, bool cut);
/* Somebody deleted the partition's stream and made it anew, empty. */
void kl_bus_sim_recreate(struct kl_bus_sim *s, uint32_t partition);
/* Somebody deleted every key that begins so. */
void kl_bus_sim_wipe(struct kl_bus_sim *s, const char *prefix);
#endif
