#ifndef KL_ENV_DISK_SIM_H
#define KL_ENV_DISK_SIM_H
/* More of the simulated disk (dir.h), for tests that kill a process between any two calls. */
#include "libkoal/env/dir.h"

/* At the nth call from now, before it does anything, the process dies: that call and all after it
 * fail and change nothing, until kl_env_disk_sim_crash or _kill is called for what comes next. An
 * append that the process dies in leaves nothing of itself. 0: not at all. */
void kl_env_disk_sim_die(struct kl_env_disk_sim *disk, uint64_t nth);
#endif
