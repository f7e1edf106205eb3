"""A sweep as one HTML page that needs nothing but itself.

html.py       elements, everything in them escaped
charts.py     drawings as inline SVG, each with its alternative text
gallery.py    a trial's sample grids, small enough to be in the page
document.py   what the page says, as plain JSON values
sections.py   how it says it in words and tables
drawings.py   how it draws it
parts.py      what both are put together from
page.py       the page around the sections
"""
