"""`make deploy-check`: everything under deploy/ by public tools and by rules of our own. Nothing is deployed; servers that are asked listen to 127.0.0.1 alone."""
