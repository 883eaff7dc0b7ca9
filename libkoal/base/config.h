#ifndef KL_CONFIG_H
#define KL_CONFIG_H
/*
 * Configuration: every option is one row of a table, and comes from (later wins) its default, the
 * YAML file, the environment (KOALEMOS_LOG_REPLICAS), a flag (--log.replicas=3). The same file
 * serves all services: unknown keys are errors, options of other services are fine.
 *
 *   path "log.replicas" <-> YAML `log: {replicas: 3}` <-> --log.replicas <-> KOALEMOS_LOG_REPLICAS
 *
 * Sizes take B KiB MiB GiB TiB, durations ms s m h d w y; a bare number is in the option's unit. Lists are
 * comma-separated text. Values are checked whole against type and range; an error names file,
 * line, column, key and what would be right. Immutable once loaded, and counted: who wants it to
 * live longer takes a reference; any thread.
 *
 * Options marked `per_tenant` may be given otherwise for some tenants, in the file, or over it
 * (kl_config_over):
 *
 *   tenants: {team-a: {retention: 30d, limits: {past: 1h}}}
 *
 * What is said of a tenant wins over what is said of all, wherever that came from. kl_config_tenant
 * gives the configuration as one tenant sees it, and every question below may be put to it.
 */
#include <stdbool.h>
#include <stdint.h>

#include "libkoal/base/buf.h"
#include "libkoal/base/err.h"

/* KL_OPT_LIST: a YAML list of flat maps (rules), kept as JSON text of strings; kl_config_list reads
 * it. In the environment and in flags it is YAML text all the same. */
enum kl_option_type { KL_OPT_TEXT, KL_OPT_INT, KL_OPT_BOOL, KL_OPT_BYTES, KL_OPT_MS, KL_OPT_CHOICE,
                      KL_OPT_LIST };
struct kl_option {
    const char *path;
    enum kl_option_type type;
    const char *fallback;                              /* the default, as text; NULL: none, unset */
    int64_t least, most;                               /* for INT, BYTES, MS */
    const char *choices;                               /* "quorum|all|one" for CHOICE */
    const char *help;
    bool per_tenant;
    /* What type and range cannot say of a value; may be NULL. Fills err with the reason alone. */
    enum kl_code (*check)(const char *text, struct kl_err *err);
    bool live;                                         /* may change while a service runs, by a reload */
};

enum { KL_TENANT_MAX = 150 };                          /* bytes of a tenant's name */
/* A tenant's name becomes a folder's and part of a subject: 1 to KL_TENANT_MAX of A-Za-z0-9_.-, and
 * not ".", "..", or what a folder has for itself: "LOCK", "ENCRYPTED", ".put-" and more. */
bool kl_tenant_ok(struct kl_span name);

struct kl_config;
/* `table` ends with a row whose path is NULL and outlives the config. `yaml` may be empty.
 * `file` names the source in errors. `env` is a NULL-ended list of "NAME=value", `args` of
 * "--path=value"; both may be NULL. */
enum kl_code kl_config_load(const struct kl_option *table, const char *file, struct kl_span yaml,
                            const char *const *env, const char *const *args,
                            struct kl_config **config, struct kl_err *err);
/* All that is wrong with a file by itself, not only what comes first, as far as it can be read; their number. */
size_t       kl_config_faults(const struct kl_option *table, const char *file, struct kl_span yaml,
                              void (*fault)(void *ctx, const struct kl_err *err), void *ctx);
struct kl_config *kl_config_ref(const struct kl_config *c);
void         kl_config_free(struct kl_config *c);      /* lets go of one reference; NULL is fine */
const char  *kl_config_text(const struct kl_config *c, const char *path);   /* NULL when unset */
int64_t      kl_config_int(const struct kl_config *c, const char *path);    /* also BYTES, MS */
bool         kl_config_bool(const struct kl_config *c, const char *path);
/* The configuration as `tenant` sees it: `c` itself where nothing is said of that tenant. Lives as
 * long as `c`. One look-up by hash. */
const struct kl_config *kl_config_tenant(const struct kl_config *c, struct kl_span tenant);
/* A feature that is rolled out: the option, an INT from 0 to 100, says for how many of 100 tenants it is on. For
 * which follows from a hash of both names: the same in every service, and who has it keeps it as the number
 * rises. What is said of the tenant alone is his: 0 off, 100 on. */
bool kl_config_feature(const struct kl_config *c, const char *path, struct kl_span tenant);
/* The tenants of whom something is said, in the order of the file: the i-th's view, and its name;
 * NULL past the last. */
const struct kl_config *kl_config_tenant_at(const struct kl_config *c, size_t i, const char **name);
/* The rows of its table, e.g. to show all that are per_tenant. */
const struct kl_option *kl_config_options(const struct kl_config *c);
/* Reads a KL_OPT_LIST's text: `field` for each value of each map, in order. A value that is a list
 * comes item by item, `nth` counting from 0. Ends at the first failure, and returns it. */
enum kl_code kl_config_list(const char *text,
                            enum kl_code (*field)(void *ctx, size_t item, const char *key, size_t nth,
                                                  struct kl_span value, struct kl_err *err),
                            void *ctx, struct kl_err *err);
/* Where a value stands: "koa.yml, line 3, column 7", "flag --cell", KOALEMOS_CELL, "default". */
void         kl_config_where(const struct kl_config *c, const char *path, char *out, size_t size);
/* The options that read differently in two configurations of one table, with commas between, of those
 * that are live or not; what differs for tenants alone counts as `tenants`, and as live. Their number. */
size_t       kl_config_changes(const struct kl_config *a, const struct kl_config *b, bool live,
                               struct kl_buf *names);

/*
 * More that is said of one tenant, from elsewhere than the file: it wins over the file. What
 * kl_config_said_read takes is YAML as it stands under a tenant's name in the file, or the same
 * flat ({limits.past: 1h}); only options that are per_tenant, each checked. `all` are one text of
 * JSON, {"limits.past": "1h"}, in the order of the table, which reads back to the same.
 */
enum kl_code kl_config_said_read(const struct kl_option *table, const char *source, struct kl_span yaml,
                                 struct kl_buf *all, struct kl_err *err);
/* The same over what was said before, `under` (JSON as above), of which the options named in `unset`, which
 * ends with NULL, are taken back; KL_EINVAL also where `under` has what this table does not know. */
enum kl_code kl_config_said_merge(const struct kl_option *table, struct kl_span under, const char *source,
                                  struct kl_span yaml, const char *const *unset, struct kl_buf *all,
                                  struct kl_err *err);
struct kl_config_said { struct kl_span tenant, all; };
/* `base` with that said over it, `all` as kl_config_said_read makes it. What of it the table refuses (another
 * version wrote it) is left out, and told through `refused` (may be NULL), a sentence each. `base` gets a
 * reference. Never NULL. */
struct kl_config *kl_config_over(const struct kl_config *base, const struct kl_config_said *said, size_t count,
                                 void (*refused)(void *ctx, const struct kl_err *err), void *ctx);

void         kl_config_help(const struct kl_option *table, struct kl_buf *out);
/* The table as a page: a chapter a section, in the order of the rows. `sections` ends with {0}. */
struct kl_config_section { const char *name, *about; };
void         kl_config_markdown(const struct kl_option *table, const struct kl_config_section *sections,
                                struct kl_buf *out);
/* The file's JSON schema (draft 2020-12): names, types, bounds, choices; unknown keys are errors. */
void         kl_config_schema(const struct kl_option *table, struct kl_buf *out);
/* One flat object of JSON, path to text, unset ones left out; secrets as in kl_config_print. */
void         kl_config_json(const struct kl_config *c, bool per_tenant_only, struct kl_buf *out);
/* As YAML that loads to the same, but for what stands before the @ of an address: a secret. */
void         kl_config_print(const struct kl_config *c, struct kl_buf *out);
/* The same without what is said of single tenants, which is nobody's but theirs. */
void         kl_config_print_common(const struct kl_config *c, struct kl_buf *out);
#endif
