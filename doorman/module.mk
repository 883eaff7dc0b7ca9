USES := libkoal/base libkoal/env libkoal/http libkoal/bus libkoal/app libtsproto overrides
