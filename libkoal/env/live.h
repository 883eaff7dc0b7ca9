#ifndef KL_ENV_LIVE_H
#define KL_ENV_LIVE_H
/*
 * The configuration in force, which may change while a service runs: what the file says, and over it
 * what is said of single tenants elsewhere. Either is replaced whole; what stands in force is always one
 * immutable kl_config, and whoever reads it holds the one he got until he lets it go.
 *
 * Who only asks now and then gets it anew each time. Who has made something of it compares turns: a
 * look at one number. Who wants to know at once listens: `changed` runs on his loop right away, and after
 * each change; once for several that came close together.
 *
 * Any thread, but where it says so. It knows no option: what may change, and when, is the app's to say.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/config.h"
#include "libkoal/env/env.h"

struct kl_env_live;
struct kl_env_live *kl_env_live_new(const struct kl_config *file);     /* takes a reference */
void                kl_env_live_free(struct kl_env_live *l);           /* nobody listens any more */
/* A reference, the caller's: kl_config_free lets it go. */
struct kl_config   *kl_env_live_get(struct kl_env_live *l);
struct kl_config   *kl_env_live_below(struct kl_env_live *l);          /* the same, of what the file alone says */
uint64_t            kl_env_live_turn(const struct kl_env_live *l);     /* rises with each change; from 1 */

void kl_env_live_file(struct kl_env_live *l, const struct kl_config *file);    /* takes a reference */
/* All that is said elsewhere, in place of what was; copied. What of it the table does not know is left
 * out, and told (see kl_config_over). May take some milliseconds, and waits for whoever replaces the
 * other part at the same time. */
void kl_env_live_over(struct kl_env_live *l, const struct kl_config_said *said, size_t count,
                      void (*refused)(void *ctx, const struct kl_err *err), void *ctx);

struct kl_env_listener {                               /* in the listener's storage */
    struct kl_env_loop  *loop;
    struct kl_env_sched *sched;
    void (*changed)(struct kl_env_listener *listener); /* on loop */
    struct kl_env_task   task;                         /* the rest is the live's */
    struct kl_env_live  *live;
    struct kl_env_listener *next;
    bool posted, runs, gone;
};
/* Waits until who listens has gone by what is in force; false: not within that time. Not on a listener's loop,
 * nor as a guest (sched.h), who would wait for himself. */
bool kl_env_live_settle(struct kl_env_live *l, int64_t patience_ms);
void kl_env_live_listen(struct kl_env_live *l, struct kl_env_listener *listener);
/* No call from here on, where it is called on the listener's loop; else none once that loop was freed. The
 * storage is the listener's again when the loop was freed. */
void kl_env_live_unlisten(struct kl_env_live *l, struct kl_env_listener *listener);
#endif
