"""What notebooks show: records as HTML, bars that move, files in a viewer. Imported when it is shown."""
