#ifndef KL_ENV_PRIV_H
#define KL_ENV_PRIV_H
/* The armed timers of one loop, a binary heap by due time; its loop's alone. */
#include "libkoal/env/sched.h"

struct kl_env_timers { struct kl_env_timer **heap; size_t count, room; };

void kl_env_timers_arm(struct kl_env_timers *t, struct kl_env_timer *timer, int64_t due_ns);
void kl_env_timers_disarm(struct kl_env_timers *t, struct kl_env_timer *timer);   /* armed or not */
/* The earliest, if it is due by `now_ns`: disarmed and returned; else NULL. */
struct kl_env_timer *kl_env_timers_due(struct kl_env_timers *t, int64_t now_ns);
/* When the earliest is due, INT64_MAX without one. */
int64_t kl_env_timers_next_ns(const struct kl_env_timers *t);
void kl_env_timers_deinit(struct kl_env_timers *t);    /* disarms all */
/* Now plus a delay, neither in the past nor past the end of time. */
int64_t kl_env_due_ns(int64_t now_ns, int64_t delay_ms);
#endif
