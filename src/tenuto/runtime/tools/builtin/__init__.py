"""Tools that come with Tenuto. A node gets one by naming it; an app's own tool of the same name hides it."""
