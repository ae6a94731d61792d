// Earth Engine, Code Editor: one row per unit with its embedding, exported as CSV for enter.py or enter.R.
// `units` is a table asset with the columns unit_id and the label, a point per unit and its year: upload the units of the task as CSV.
var units = ee.FeatureCollection('users/YOU/units');
var embedding = ee.ImageCollection('GOOGLE/SATELLITE_EMBEDDING/V1/ANNUAL');

var sampled = units.map(function (unit) {
  var year = ee.Number.parse(ee.String(unit.get('year')));
  var image = embedding
      .filterDate(ee.Date.fromYMD(year, 1, 1), ee.Date.fromYMD(year.add(1), 1, 1))
      .filterBounds(unit.geometry())
      .mosaic();
  return unit.set(image.reduceRegion({reducer: ee.Reducer.first(), geometry: unit.geometry(), scale: 10}));
});

Export.table.toDrive({collection: sampled, description: 'units', fileFormat: 'CSV'});
