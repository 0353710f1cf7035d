"""Clips: videos decoded with FFmpeg (the extra ``video``) and animated images with Pillow."""
