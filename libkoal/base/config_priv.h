#ifndef KL_CONFIG_PRIV_H
#define KL_CONFIG_PRIV_H
/* Between config.c, which knows the table, config_tenants.c, and config_yaml.c, which knows libyaml. */
#include "libkoal/base/config.h"

enum { KL_CONFIG_TEXT_MAX = 256 * 1024 };              /* of one value */

struct kl_config_value {
    char   *text;                                      /* NULL: unset */
    int64_t number;
    bool    own;                                       /* false: of the configuration for all */
};
struct kl_config_tenants;
struct kl_config {
    const struct kl_option *table;
    size_t count;
    struct kl_config_value *values;
    struct kl_config_tenants *tenants;                 /* NULL: none; always NULL in a tenant's view */
};

/* ---- config.c ---- */
struct kl_config *kl_config_new(const struct kl_option *table);
enum kl_code kl_config_set(struct kl_config *c, const char *path, const char *text,
                           const char *where, struct kl_err *err);
bool         kl_config_is_section(const struct kl_config *c, const char *path);
const struct kl_option *kl_config_option(const struct kl_config *c, const char *path);  /* or NULL */

/* ---- config_tenants.c ---- */
/* A new tenant's view, with nothing set. NULL: there is one of that name, or KL_CONFIG_TENANTS_MAX. */
enum { KL_CONFIG_TENANTS_MAX = 65536 };
struct kl_config *kl_config_tenant_add(struct kl_config *c, struct kl_span name);
void         kl_config_tenants_inherit(struct kl_config *c);   /* when all of `c` is set */
void         kl_config_tenants_free(struct kl_config *c);

/* ---- config_yaml.c ---- */
enum kl_code kl_config_yaml(struct kl_config *c, const char *file, struct kl_span yaml,
                            struct kl_err *err);
/* A list of flat maps, as YAML, into its one form. */
enum kl_code kl_config_list_text(struct kl_span yaml, struct kl_buf *out, struct kl_err *err);
#endif
