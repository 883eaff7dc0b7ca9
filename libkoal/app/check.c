/* What of a configuration can only be said of several options together; and the page of all of them. */
#include "libkoal/app/app_priv.h"

#include "libkoal/base/retention.h"

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

/* Are rows made where these rules hold? Of those of all also where a tenant makes some who has no rules of his own: then
 * they have an effect, if not for everybody. */
static void rows_made(const struct kl_config *c, const struct kl_config *view, bool makes[KL_RETENTION_ROLLUPS])
{
    const char             *text = kl_config_text(view, "retention_rules"), *name;
    const struct kl_config *x;

    makes[KL_RETENTION_5M] = kl_config_int(view, "rollup.5m") > 0;
    makes[KL_RETENTION_1H] = kl_config_int(view, "rollup.1h") > 0;
    for (size_t i = 0; view == c && (x = kl_config_tenant_at(c, i, &name)) != NULL; i++)
        if (kl_config_text(x, "retention_rules") == text) {
            makes[KL_RETENTION_5M] |= kl_config_int(x, "rollup.5m") > 0;
            makes[KL_RETENTION_1H] |= kl_config_int(x, "rollup.1h") > 0;
        }
}

/* Without a place: it is in a text of its own, the overrides', or stands where kl_config_where says. */
static enum kl_code check_rules(const struct kl_config *c, const struct kl_config *view, const char *tenant, struct kl_err *err)
{
    const char          *text = kl_config_text(view, "retention_rules");
    struct kl_retention *rules;
    bool                 makes[KL_RETENTION_ROLLUPS];
    enum kl_code         code;

    if (text == NULL || (view != c && text == kl_config_text(c, "retention_rules")))
        return KL_OK;                                  /* those of all were looked at */
    if (kl_retention_new(text, &rules, err) != KL_OK)
        return err->code;
    rows_made(c, view, makes);
    code = kl_retention_effect(rules, makes, tenant, err);
    kl_retention_free(rules);
    return code;
}

enum kl_code kl_app_check_tenant(const struct kl_config *c, const char *tenant, struct kl_err *err)
{
    return check_rules(c, kl_config_tenant(c, kl_span_str(tenant)), tenant, err);
}

static enum kl_code check_all_rules(const struct kl_config *c, struct kl_err *err)
{
    const struct kl_config *view = c;
    const char             *tenant = NULL;
    char                    where[300];

    for (size_t i = 0; view != NULL; view = kl_config_tenant_at(c, i++, &tenant))
        if (check_rules(c, view, tenant, err) != KL_OK) {
            kl_config_where(view, "retention_rules", where, sizeof where);
            return kl_within(err, "%s", where);
        }
    return KL_OK;
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
    if (check_all_rules(c, err) != KL_OK)
        return err->code;
    return kl_app_secure_check(c, err);
}
