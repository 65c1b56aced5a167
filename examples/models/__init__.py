"""The sample models: trained here on data that ships with scikit-learn, served by Triton."""
