# CE: the student alone, without a teacher; the baseline for every method.
method = 'ce'
model = dict(_scope_='mmrazor', type='StudentAlone')
