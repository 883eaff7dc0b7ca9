#include "libkoal/base/config_priv.h"

#include "libkoal/base/hash.h"

#include <string.h>

bool kl_config_feature(const struct kl_config *c, const char *path, struct kl_span tenant)
{
    int64_t       percent = kl_config_int(kl_config_tenant(c, tenant), path);
    struct kl_buf both = { 0 };
    uint64_t      hash;

    if (percent <= 0 || percent >= 100)
        return percent > 0;
    kl_buf_add(&both, path, strlen(path) + 1);         /* its end too, or two pairs could read alike */
    kl_buf_add(&both, tenant.at, tenant.size);
    hash = kl_hash64(both.at, both.size);
    kl_buf_deinit(&both);
    return (int64_t)(hash % 100) < percent;
}
