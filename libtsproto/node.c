#include "libtsproto/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libkoal/base/sorted.h"
#include "libtsproto/node.pb.h"
#include "libtsproto/pb_priv.h"

void tsp_node_key(const char *name, char *key, size_t size)
{
    snprintf(key, size, TSP_NODE_PREFIX "%s", name);
}

void tsp_lease_key(uint32_t partition, char *key, size_t size)
{
    snprintf(key, size, TSP_LEASE_PREFIX "%04" PRIu32, partition);
}

void tsp_node_deinit(struct tsp_node *n)
{
    free(n->holdings);
    n->holdings = NULL;
    n->holding_count = 0;
}

const struct tsp_holding *tsp_node_holding(const struct tsp_node *n, uint32_t partition)
{
    uint32_t at = KL_FIRST(i, n->holding_count, n->holdings[i].partition >= partition);

    return at < n->holding_count && n->holdings[at].partition == partition ? &n->holdings[at] : NULL;
}

/* ---- what may be a name: it becomes a key of the KV and a subject of NATS ---- */

static bool fit(const char *s, bool may_be_empty)
{
    if (*s == '\0')
        return may_be_empty;
    if (strcmp(s, ".") == 0 || strcmp(s, "..") == 0)
        return false;
    for (; *s != '\0'; s++)
        if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') || (*s >= '0' && *s <= '9') ||
              *s == '_' || *s == '-'))
            return false;
    return true;
}

enum kl_code tsp_node_check(const struct tsp_node *n, struct kl_err *err)
{
    if (!fit(n->name, false))
        return kl_fail(err, KL_EINVAL, "\"%s\" is no name for a node: letters, digits, '_' and '-', "
                       "1 to %d of them", n->name, TSP_NAME_MAX);
    if (!fit(n->zone, true))
        return kl_fail(err, KL_EINVAL, "\"%s\" is no name for a zone: letters, digits, '_' and '-', "
                       "up to %d of them", n->zone, TSP_ZONE_MAX);
    if (n->capacity == 0 || n->capacity > TSP_CAPACITY_MAX)
        return kl_fail(err, KL_EINVAL, "capacity %" PRIu32 ": it should be 1 to %d", n->capacity,
                       TSP_CAPACITY_MAX);
    if (n->state > TSP_NODE_DRAINING)
        return kl_fail(err, KL_EINVAL, "a node in a state that this version does not know");
    return KL_OK;
}

/* ---- bytes ---- */

static bool put_holdings(pb_ostream_t *stream, const pb_field_t *field, void *const *arg)
{
    const struct tsp_node *n = *arg;

    for (uint32_t i = 0; i < n->holding_count; i++) {
        const struct tsp_holding *h = &n->holdings[i];
        koalemos_Holding m = { .partition = h->partition, .state = h->state, .applied = h->applied,
                               .behind = h->behind };

        if (!pb_encode_tag_for_field(stream, field) ||
            !pb_encode_submessage(stream, koalemos_Holding_fields, &m))
            return false;
    }
    return true;
}

enum kl_code tsp_node_encode(const struct tsp_node *n, struct kl_buf *out, struct kl_err *err)
{
    struct kl_span name = kl_span_str(n->name), zone = kl_span_str(n->zone),
                   address = kl_span_str(n->address), version = kl_span_str(n->version),
                   instance = kl_span(n->instance.bytes, sizeof n->instance.bytes),
                   disk = kl_span(n->disk.bytes, sizeof n->disk.bytes);
    koalemos_Node  m = {
        .name = tsp_pb_put(&name), .zone = tsp_pb_put(&zone), .capacity = n->capacity,
        .instance = tsp_pb_put(&instance), .address = tsp_pb_put(&address), .state = n->state,
        .beat = n->beat, .started_ms = n->started_ms, .version = tsp_pb_put(&version),
        .disk = tsp_pb_put(&disk), .partitions = n->partitions,
        .now_ms = n->now_ms,
        .holdings = { .funcs.encode = put_holdings, .arg = (void *)n },
    };

    if (tsp_node_check(n, err) != KL_OK)
        return err->code;
    return tsp_pb_encode(koalemos_Node_fields, &m, out, "node", err);
}

struct got_node { struct tsp_node node; uint32_t room; };

static bool get_holding(pb_istream_t *stream, const pb_field_t *field, void **arg)
{
    struct got_node *got = *arg;
    struct tsp_node *n = &got->node;
    koalemos_Holding m = koalemos_Holding_init_zero;

    (void)field;
    if (!pb_decode(stream, koalemos_Holding_fields, &m))
        return false;
    if (m.partition >= TSP_PARTITIONS_MAX || m.state > TSP_HOLDING_BROKEN ||
        (n->holding_count > 0 && n->holdings[n->holding_count - 1].partition >= m.partition))
        PB_RETURN_ERROR(stream, "partitions out of order or range");
    if (n->holding_count == got->room) {
        got->room = got->room == 0 ? 16 : got->room * 2;
        n->holdings = kl_resize(n->holdings, got->room * sizeof *n->holdings);
    }
    n->holdings[n->holding_count++] =
        (struct tsp_holding){ m.partition, (enum tsp_holding_state)m.state, m.applied, m.behind };
    return true;
}

static enum kl_code text(struct kl_span from, char *to, size_t size, const char *what,
                         struct kl_err *err)
{
    if (from.size >= size || memchr(from.size > 0 ? from.at : "", '\0', from.size) != NULL)
        return kl_fail(err, KL_EINVAL, "%s of %zu bytes, or with a NUL", what, from.size);
    if (from.size > 0)
        memcpy(to, from.at, from.size);
    to[from.size] = '\0';
    return KL_OK;
}

static enum kl_code sixteen(struct kl_span from, struct tsp_incarnation *to, struct kl_err *err)
{
    if (from.size != sizeof to->bytes)
        return kl_fail(err, KL_EINVAL, "an instance of %zu bytes in place of %zu", from.size,
                       sizeof to->bytes);
    memcpy(to->bytes, from.at, sizeof to->bytes);
    return KL_OK;
}

enum kl_code tsp_node_decode(struct kl_span bytes, struct tsp_node *n, struct kl_err *err)
{
    struct kl_arena     arena;
    struct kl_span      name = { "", 0 }, zone = name, address = name, version = name, instance = name,
                        disk = name;
    struct got_node     gn = { 0 };
    struct tsp_pb_bytes to[] = { { &arena, &name }, { &arena, &zone }, { &arena, &address },
                                 { &arena, &version }, { &arena, &instance },
                                 { &arena, &disk } };
    koalemos_Node       m = koalemos_Node_init_zero;
    enum kl_code        code;

    kl_arena_init(&arena, 1 << 20);
    m.name = tsp_pb_get(&to[0]);
    m.zone = tsp_pb_get(&to[1]);
    m.address = tsp_pb_get(&to[2]);
    m.version = tsp_pb_get(&to[3]);
    m.instance = tsp_pb_get(&to[4]);
    m.disk = tsp_pb_get(&to[5]);
    m.holdings = (pb_callback_t){ .funcs.decode = get_holding, .arg = &gn };
    code = tsp_pb_decode(koalemos_Node_fields, bytes, &m, "node", err);
    gn.node.capacity = m.capacity;
    gn.node.partitions = m.partitions;
    gn.node.now_ms = m.now_ms;
    gn.node.state = (enum tsp_node_state)m.state;
    gn.node.beat = m.beat;
    gn.node.started_ms = m.started_ms;
    if (code == KL_OK &&
        ((code = text(name, gn.node.name, sizeof gn.node.name, "node: a name", err)) != KL_OK ||
         (code = text(zone, gn.node.zone, sizeof gn.node.zone, "node: a zone", err)) != KL_OK ||
         (code = text(address, gn.node.address, sizeof gn.node.address, "node: an address", err)) != KL_OK ||
         (code = text(version, gn.node.version, sizeof gn.node.version, "node: a version", err)) != KL_OK ||
         (code = sixteen(instance, &gn.node.instance, err)) != KL_OK ||
         (code = sixteen(disk, &gn.node.disk, err)) != KL_OK))
        kl_within(err, "node");
    if (code == KL_OK)
        code = tsp_node_check(&gn.node, err);
    kl_arena_deinit(&arena);
    if (code == KL_OK)
        *n = gn.node;
    else
        tsp_node_deinit(&gn.node);
    return code;
}

enum kl_code tsp_lease_encode(const struct tsp_lease *l, struct kl_buf *out, struct kl_err *err)
{
    struct kl_span owner = kl_span_str(l->owner),
                   instance = kl_span(l->instance.bytes, sizeof l->instance.bytes);
    koalemos_Lease m = { .owner = tsp_pb_put(&owner), .instance = tsp_pb_put(&instance),
                         .epoch = l->epoch, .beat = l->beat };

    return tsp_pb_encode(koalemos_Lease_fields, &m, out, "lease", err);
}

enum kl_code tsp_lease_decode(struct kl_span bytes, struct tsp_lease *l, struct kl_err *err)
{
    struct kl_arena     arena;
    struct kl_span      owner = { "", 0 }, instance = owner;
    struct tsp_pb_bytes to_owner = { &arena, &owner }, to_instance = { &arena, &instance };
    struct tsp_lease    got = { 0 };
    koalemos_Lease      m = koalemos_Lease_init_zero;
    enum kl_code        code;

    kl_arena_init(&arena, 1 << 16);
    m.owner = tsp_pb_get(&to_owner);
    m.instance = tsp_pb_get(&to_instance);
    code = tsp_pb_decode(koalemos_Lease_fields, bytes, &m, "lease", err);
    got.epoch = m.epoch;
    got.beat = m.beat;
    if (code == KL_OK && (code = text(owner, got.owner, sizeof got.owner, "an owner", err)) == KL_OK)
        code = sixteen(instance, &got.instance, err);
    kl_arena_deinit(&arena);
    if (code != KL_OK)
        return kl_within(err, "lease");
    *l = got;
    return KL_OK;
}
