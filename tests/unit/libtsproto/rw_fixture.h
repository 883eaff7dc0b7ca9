#ifndef TEST_RW_FIXTURE_H
#define TEST_RW_FIXTURE_H
/* What tests of both remote writes begin with: buffers to write a message into, and what reading one needs. */
#include "libkoal/base/labels.h"
#include "libkoal/base/mem.h"
#include "tests/suite.h"
#include "wire.h"

static struct kl_buf            message, series, part, inner;
static struct kl_labels_builder builder;
static struct kl_arena          arena;
static struct kl_err            err;

static inline void setup(void)
{
    kl_buf_init(&message, 0);
    kl_buf_init(&series, 0);
    kl_buf_init(&part, 0);
    kl_buf_init(&inner, 0);
    kl_arena_init(&arena, 1 << 20);
    kl_labels_start(&builder);
    err = (struct kl_err){ 0 };
}

static inline void teardown(void)
{
    kl_buf_deinit(&message);
    kl_buf_deinit(&series);
    kl_buf_deinit(&part);
    kl_buf_deinit(&inner);
    kl_arena_deinit(&arena);
}
#endif
