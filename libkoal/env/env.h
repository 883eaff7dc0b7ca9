#ifndef KL_ENV_H
#define KL_ENV_H
/*
 * What every core is handed: clock, randomness, scheduling (disk, bus and store come beside it).
 * A core calls nothing of the operating system itself; `make check` reads its undefined symbols.
 */
#include <stdint.h>

#include "libkoal/env/sched.h"

struct kl_env_clock {
    int64_t (*wall_ms)(struct kl_env_clock *c);        /* since the Unix epoch; may jump */
    int64_t (*mono_ns)(struct kl_env_clock *c);        /* never goes back; for delays */
};
struct kl_env_random {
    void (*fill)(struct kl_env_random *r, void *bytes, size_t size);          /* any thread */
};
struct kl_env {
    struct kl_env_clock  *clock;
    struct kl_env_random *random;
    struct kl_env_sched  *sched;
};
static inline int64_t  kl_env_now_ms(struct kl_env *e) { return e->clock->wall_ms(e->clock); }
static inline int64_t  kl_env_mono_ns(struct kl_env *e) { return e->clock->mono_ns(e->clock); }
static inline uint64_t kl_env_draw(struct kl_env *e)
{
    uint64_t v;
    e->random->fill(e->random, &v, sizeof v);
    return v;
}

/* The machine's own. `workers` as in kl_env_sched_real_new. */
struct kl_env *kl_env_real_new(unsigned workers);
void           kl_env_real_free(struct kl_env *e);

/*
 * The simulated one: virtual time, one thread, all choices from `seed`. Time moves only when
 * nothing is runnable: to the next timer. step runs one task; false when there is neither a task
 * nor a timer up to `until_ns` of virtual mono time. Wall time starts at 1,700,000,000,000 ms.
 */
struct kl_env_sim;
struct kl_env_sim *kl_env_sim_new(uint64_t seed);
void               kl_env_sim_free(struct kl_env_sim *s);
struct kl_env     *kl_env_sim_env(struct kl_env_sim *s);
bool               kl_env_sim_step(struct kl_env_sim *s, int64_t until_ns);
void               kl_env_sim_run(struct kl_env_sim *s, int64_t for_ms);      /* steps until then */
uint64_t           kl_env_sim_draw(struct kl_env_sim *s);
/* More processes beside the one of kl_env_sim_env, on the same clock; each is the simulation's. */
struct kl_env     *kl_env_sim_process(struct kl_env_sim *s);
/* A killed process: drops all its queued tasks, timers and work without running them. Its loops are
 * dead: what is posted there later is lost, as a message to a dead process is, an offer is refused,
 * loop_free does nothing; nothing may be made on it. Not from within a task. */
void               kl_env_sim_kill(struct kl_env_sim *s, struct kl_env *process);
/* A stopped process (SIGSTOP): nothing of it runs until it goes on; time passes meanwhile. */
void               kl_env_sim_pause(struct kl_env_sim *s, struct kl_env *process, bool paused);
/* Its wall clock is that much ahead of the simulation's; behind, where it is negative. */
void               kl_env_sim_ahead(struct kl_env_sim *s, struct kl_env *process, int64_t ms);
/* The same to every process; the one of kl_env_sim_env may then begin anew. */
void               kl_env_sim_kill_all(struct kl_env_sim *s);
#endif
