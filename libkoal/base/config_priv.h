#ifndef KL_CONFIG_PRIV_H
#define KL_CONFIG_PRIV_H
/* Between the files of config: config.c knows the table and where values come from, config_value.c what
 * a value may be, config_tenants.c views, config_over.c what is said elsewhere, config_yaml.c libyaml. */
#include <stdatomic.h>

#include "libkoal/base/config.h"

enum { KL_CONFIG_TEXT_MAX = 256 * 1024 };              /* of one value */

enum kl_config_from { KL_FROM_DEFAULT, KL_FROM_FILE, KL_FROM_ENV, KL_FROM_FLAG };
struct kl_config_place { enum kl_config_from from; uint32_t line, column; };

struct kl_config_value {
    char   *text;                                      /* NULL: unset */
    int64_t number;
    struct kl_config_place place;
    bool    own;                                       /* the text is this configuration's, to be freed */
};
struct kl_config_own { uint32_t index; struct kl_config_value value; };
struct kl_config_tenants;
/* One for all, with a value for each row; or a tenant's view, which has only what is said of the tenant. */
struct kl_config {
    _Atomic unsigned refs;                             /* never of a view */
    const struct kl_option *table;
    size_t count;
    char *file;                                        /* what the file is called; or NULL */
    struct kl_config_value *values;                    /* NULL in a view */
    const struct kl_config *all;                       /* of a view: whose values it inherits */
    struct kl_config_own *said;                        /* of a view, by index */
    uint32_t said_count;
    struct kl_config_tenants *tenants;                 /* NULL: none; always NULL in a view */
    struct kl_config *base;                            /* whose texts are lent to this one; or NULL */
};

/* ---- config.c ---- */
struct kl_config *kl_config_new(const struct kl_option *table, const char *file);
void         kl_config_drop(struct kl_config *c);      /* frees it, whatever its count; views too */
enum kl_code kl_config_set(struct kl_config *c, const char *path, const char *text,
                           struct kl_config_place place, struct kl_err *err);
bool         kl_config_is_section(const struct kl_config *c, const char *path);
const struct kl_option *kl_config_option(const struct kl_config *c, const char *path);  /* or NULL */
/* The value of row i as `c` sees it, inherited or its own. */
const struct kl_config_value *kl_config_value_at(const struct kl_config *c, size_t i);
/* The same, NULL where a view inherits it. */
const struct kl_config_value *kl_config_value_said(const struct kl_config *c, size_t i);
void         kl_config_keep(struct kl_config *c, size_t i, struct kl_config_value value_take);
/* KOALEMOS_LOG_REPLICAS of log.replicas. */
void         kl_config_variable(const char *path, char *out, size_t size);

/* ---- config_value.c ---- */
/* `text` as a value of that option: *value_text a new string. `where` is put in front of the words. */
enum kl_code kl_config_value_read(const struct kl_option *o, const char *text, const char *where,
                                  char **value_text, int64_t *number, struct kl_err *err);
/* A bound as it would be written: 64MiB, 2h, 5. */
enum { KL_CONFIG_NUMBER_MAX = 32 };
void kl_config_value_write(enum kl_option_type type, int64_t number, char out[KL_CONFIG_NUMBER_MAX]);

/* ---- config_near.c ---- */
/* "; did you mean "limits.past"?" where one is near; else "; --help lists them". */
void kl_config_near(const struct kl_option *table, const char *path, char *out, size_t size);

/* ---- config_tenants.c ---- */
/* A new tenant's view, with nothing said. NULL: there is one of that name, or KL_CONFIG_TENANTS_MAX. */
enum { KL_CONFIG_TENANTS_MAX = 65536 };
struct kl_config *kl_config_tenant_add(struct kl_config *c, struct kl_span name);
struct kl_config *kl_config_tenant_view(struct kl_config *c, struct kl_span name);      /* or NULL */
struct kl_config *kl_config_view_new(const struct kl_config *all);
void         kl_config_tenants_free(struct kl_config *c);

/* ---- config_yaml.c ---- */
/* Where `refused` is not NULL what is wrong is told there, and the rest is read all the same, unless it cannot
 * be: that is returned. */
enum kl_code kl_config_yaml(struct kl_config *c, struct kl_span yaml,
                            void (*refused)(void *ctx, const struct kl_err *err), void *ctx, struct kl_err *err);
/* The same of what stands under a tenant's name; `view` is its. */
enum kl_code kl_config_yaml_view(struct kl_config *view, const char *source, struct kl_span yaml,
                                 void (*refused)(void *ctx, const struct kl_err *err), void *ctx,
                                 struct kl_err *err);
/* A list of flat maps, as YAML, into its one form. */
enum kl_code kl_config_list_text(struct kl_span yaml, struct kl_buf *out, struct kl_err *err);
#endif
