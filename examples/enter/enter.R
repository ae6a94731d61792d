# Fills the empty predictions of a classification submission in R: arrow, dplyr and nnet (which comes with R), nothing of rs05bench.
#
#   rs05bench submit template aef-landcover --out mine
#   Rscript enter.R mine label "^A[0-9]{2}$" unit_id units.csv
#
# The folder, the column of the label, the feature columns (a regular expression), the columns that name a unit (joined by an underscore where they
# are several: "parcel_id,year"), and one or more tables with a row per unit.
library(arrow)
library(dplyr)

given <- commandArgs(trailingOnly = TRUE)
folder <- given[1]
label <- given[2]
named <- strsplit(given[4], ",")[[1]]
cell <- c("task", "target", "split", "fold", "budget", "seed")

units <- bind_rows(lapply(given[-(1:4)], read.csv, colClasses = "character", check.names = FALSE))
ids <- do.call(paste, c(units[named], sep = "_"))
features <- as.data.frame(lapply(units[grep(given[3], names(units))], as.numeric))
rownames(features) <- ids
labels <- setNames(units[[label]], ids)

rows <- as.data.frame(read_parquet(file.path(folder, "predictions.parquet")))
shown <- as.data.frame(read_parquet(file.path(folder, "labels.parquet")))
classes <- sub("^p_", "", grep("^p_", names(rows), value = TRUE))

answer <- function(part, key) {
  use <- semi_join(shown, key, by = cell)$unit_id
  known <- factor(labels[use], levels = intersect(classes, unique(labels[use])))
  model <- nnet::multinom(known ~ ., data = features[use, , drop = FALSE], decay = 0.1, MaxNWts = 1e5, trace = FALSE)
  found <- predict(model, features[part$unit_id, , drop = FALSE], type = "probs")
  if (nlevels(known) == 2) found <- cbind(1 - found, found)
  part[paste0("p_", classes)] <- 0
  part[paste0("p_", levels(known))] <- found
  part
}

filled <- rows |>
  group_by(across(all_of(cell))) |>
  group_modify(answer) |>
  ungroup() |>
  select(all_of(names(rows)))
write_parquet(filled, file.path(folder, "predictions.parquet"))
invisible(file.remove(file.path(folder, "labels.parquet")))
