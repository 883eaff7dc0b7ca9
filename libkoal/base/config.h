#ifndef KL_CONFIG_H
#define KL_CONFIG_H
/*
 * Configuration: every option is one row of a table, and comes from (later wins) its default, the
 * YAML file, the environment (KOALEMOS_LOG_REPLICAS), a flag (--log.replicas=3). The same file
 * serves all services: unknown keys are errors, options of other services are fine.
 *
 *   path "log.replicas" <-> YAML `log: {replicas: 3}` <-> --log.replicas <-> KOALEMOS_LOG_REPLICAS
 *
 * Sizes take B KiB MiB GiB, durations ms s m h d; a bare number is in the option's unit. Lists are
 * comma-separated text. Values are checked whole against type and range; an error names file,
 * line, key and what would be right. Immutable once loaded; any thread.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"

enum kl_option_type { KL_OPT_TEXT, KL_OPT_INT, KL_OPT_BOOL, KL_OPT_BYTES, KL_OPT_MS, KL_OPT_CHOICE };
struct kl_option {
    const char *path;
    enum kl_option_type type;
    const char *fallback;                              /* the default, as text; NULL: none, unset */
    int64_t least, most;                               /* for INT, BYTES, MS */
    const char *choices;                               /* "quorum|all|one" for CHOICE */
    const char *help;
};

struct kl_config;
/* `table` ends with a row whose path is NULL and outlives the config. `yaml` may be empty.
 * `file` names the source in errors. `env` is a NULL-ended list of "NAME=value", `args` of
 * "--path=value"; both may be NULL. */
enum kl_code kl_config_load(const struct kl_option *table, const char *file, struct kl_span yaml,
                            const char *const *env, const char *const *args,
                            struct kl_config **config, struct kl_err *err);
void         kl_config_free(struct kl_config *c);
const char  *kl_config_text(const struct kl_config *c, const char *path);   /* NULL when unset */
int64_t      kl_config_int(const struct kl_config *c, const char *path);    /* also BYTES, MS */
bool         kl_config_bool(const struct kl_config *c, const char *path);
void         kl_config_help(const struct kl_option *table, struct kl_buf *out);
/* As YAML that loads to the same, but for what stands before the @ of an address: a secret. */
void         kl_config_print(const struct kl_config *c, struct kl_buf *out);
#endif
