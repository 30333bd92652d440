# CE: the student alone, without a teacher; what every method must beat.
method = 'ce'
model = dict(_scope_='mmrazor', type='StudentAlone')
