USES := libkoal/base libkoal/env
LIBS := -lnats
