USES := libkoal/base libkoal/env libkoal/crypt libkoal/http libkoal/auth
