/* What of a configuration can only be said of several options together; and the page of all of them. */
#include "libkoal/app/app_priv.h"

#include <stdio.h>

static const char intro[] =
    "# Configuration\n"
    "\n"
    "Made by `make config-doc` from the one table of options, `libkoal/app/options.c`; a test refuses a page that is not.\n"
    "\n"
    "One YAML file serves all services: each reads what concerns it. Every option is also a flag and a variable of the\n"
    "environment; of several the later in this list wins: its default, the file, the environment, the flag.\n"
    "\n"
    "    log:                       # --config FILE\n"
    "      level: debug\n"
    "    KOALEMOS_LOG_LEVEL=debug   # the environment\n"
    "    --log.level=debug          # a flag\n"
    "\n"
    "Sizes take B, KiB, MiB, GiB, TiB; durations ms, s, m, h, d, w, y, also together (1h30m). A bare number is in bytes or\n"
    "milliseconds. Lists may be YAML lists or texts with commas.\n"
    "\n"
    "- `koalemos check-config FILE` says whether a file is one, or line and column of what is wrong with it. Unknown keys are errors.\n"
    "- `koalemos config schema` prints a JSON schema, for editors.\n"
    "- `--print-config` of any service prints what it would use, all sources together; `--help` lists the options.\n"
    "\n"
    "**changes by** *restart*: it is read at the start. *reload*: read again at SIGHUP, or a POST to `/-/reload` where\n"
    "`http.lifecycle` allows it. What was read is taken whole or not at all: a file that is none any more, or changes what takes a\n"
    "restart, is refused with words that name it, and what was in force stays in force. `/config` shows that, and why the last\n"
    "reload was refused; so do `koalemos_config_last_reload_successful` and its fellows in `/metrics`. *tenant*: may be said for\n"
    "single tenants:\n"
    "\n"
    "    tenants:\n"
    "      team-a:\n"
    "        retention: 90d\n"
    "        limits: {series_max: 2000000}\n"
    "\n"
    "or, over that and in force in all services at once, with a history and a way back:\n"
    "\n"
    "    koalemos overrides set team-a retention=90d limits.series_max=2000000 --note 'asked for by ...'\n"
    "    koalemos overrides history team-a\n"
    "    koalemos overrides rollback team-a 1\n";

void kl_app_config_page(struct kl_buf *out)
{
    kl_buf_adds(out, intro);
    kl_config_markdown(kl_app_options, kl_app_sections, out);
}

static bool is_set_twice(const struct kl_config *c, const char *a, const char *b, struct kl_err *err)
{
    char where[300];

    if (kl_config_text(c, a) == NULL || kl_config_text(c, b) == NULL)
        return false;
    kl_config_where(c, b, where, sizeof where);
    kl_fail(err, KL_EINVAL, "%s: %s and %s are both set: which of them?", where, a, b);
    return true;
}

enum kl_code kl_app_check(const struct kl_config *c, struct kl_err *err)
{
    char where[300];

    if (kl_config_int(c, "disk.low_water") > kl_config_int(c, "disk.high_water") &&
        kl_config_int(c, "disk.high_water") > 0) {
        kl_config_where(c, "disk.low_water", where, sizeof where);
        return kl_fail(err, KL_EINVAL, "%s: disk.low_water should not be above disk.high_water", where);
    }
    if (kl_config_int(c, "cluster.silent") < 3 * kl_config_int(c, "cluster.heartbeat")) {
        kl_config_where(c, "cluster.silent", where, sizeof where);
        return kl_fail(err, KL_EINVAL, "%s: cluster.silent should be at least three of cluster.heartbeat",
                       where);
    }
    if (is_set_twice(c, "encryption.keys.file", "encryption.keys.command", err) ||
        is_set_twice(c, "store.encryption_key.file", "store.encryption_key.command", err))
        return err->code;
    return kl_app_secure_check(c, err);
}
