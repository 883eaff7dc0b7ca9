#ifndef KL_CONFIG_PRIV_H
#define KL_CONFIG_PRIV_H
/* Between config.c, which knows the table, and config_yaml.c, which knows libyaml. */
#include "libkoal/base/config.h"

enum kl_code kl_config_yaml(struct kl_config *c, const char *file, struct kl_span yaml,
                            struct kl_err *err);
enum kl_code kl_config_set(struct kl_config *c, const char *path, const char *text,
                           const char *where, struct kl_err *err);
bool         kl_config_is_section(const struct kl_config *c, const char *path);
#endif
